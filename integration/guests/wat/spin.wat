;; Proves: a guest that never calls the host again still ends on SIGTERM and SIGKILL.
;; Prints one line first, so that a test knows when the loop has begun.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One iovec at 0: { base = 16, length = 9 }; the number of bytes written lands at 8.
  (data (i32.const 0) "\10\00\00\00\09\00\00\00")
  (data (i32.const 16) "spinning\n")
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $for_ever (br $for_ever))))
