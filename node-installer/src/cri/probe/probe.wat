;; Prints its one argument and a line feed; ends with 2 for a wrong number of arguments, with 3 for a failed write.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  ;; 0: number of arguments, 4: bytes of them, 8: the vector to write, 16: bytes written, 64: argv, 1024: the arguments
  (func (export "_start")
    (local $end i32)
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (if (i32.ne (i32.load (i32.const 0)) (i32.const 2)) (then (call $exit (i32.const 2))))
    (drop (call $args (i32.const 64) (i32.const 1024)))
    (local.set $end (i32.add (i32.const 1024) (i32.load (i32.const 4))))
    ;; The last argument's NUL becomes the line feed.
    (i32.store8 (i32.sub (local.get $end) (i32.const 1)) (i32.const 10))
    (i32.store (i32.const 8) (i32.load (i32.const 68)))
    (i32.store (i32.const 12) (i32.sub (local.get $end) (i32.load (i32.const 68))))
    (if (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)) (then (call $exit (i32.const 3))))))
