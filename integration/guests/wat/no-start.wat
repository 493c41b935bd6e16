;; Proves: a module without `_start` is refused by default, runs with the entry `path#greet`,
;; and the entries `path#absent` (not exported) and `path#add` (wants arguments) are clear errors.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One iovec at 0: { base = 16, length = 17 }; the number of bytes written lands at 8.
  (data (i32.const 0) "\10\00\00\00\11\00\00\00")
  (data (i32.const 16) "hello from greet\n")
  (func (export "greet")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1))))
