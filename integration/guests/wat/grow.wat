;; Proves: a limit on a guest's memory holds. Grows in steps of 1 MiB and writes to every page, so that
;; the memory is really used. Exits 9 where the host refused a step, 0 once it has 1 GiB; a cgroup limit
;; below that kills it on the way.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  ;; Two iovecs: at 0 { 32, 8 } = "refused\n", at 8 { 40, 13 } = "grew to 1GiB\n"; bytes written land at 16.
  (data (i32.const 0) "\20\00\00\00\08\00\00\00")
  (data (i32.const 8) "\28\00\00\00\0d\00\00\00")
  (data (i32.const 32) "refused\n")
  (data (i32.const 40) "grew to 1GiB\n")
  (func $print (param $iovec i32)
    (drop (call $fd_write (i32.const 1) (local.get $iovec) (i32.const 1) (i32.const 16))))
  (func (export "_start")
    (local $at i32) (local $end i32)
    (loop $step
      ;; 16 Wasm pages of 64 KiB are 1 MiB.
      (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1))
        (then
          (call $print (i32.const 0))
          (call $proc_exit (i32.const 9))))
      (local.set $end (i32.mul (memory.size) (i32.const 65536)))
      (local.set $at (i32.sub (local.get $end) (i32.const 1048576)))
      (loop $touch
        ;; 4 KiB: the smallest page of any machine this runs on.
        (i32.store8 (local.get $at) (i32.const 1))
        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
        (br_if $touch (i32.lt_u (local.get $at) (local.get $end))))
      ;; 16384 Wasm pages are 1 GiB.
      (br_if $step (i32.lt_u (memory.size) (i32.const 16384))))
    (call $print (i32.const 8))))
