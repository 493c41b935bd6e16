;; Proves: a module that asks for a function no host has is refused, and the message names `nowhere` and `missing`.
(module
  (import "nowhere" "missing" (func $missing (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $missing (i32.const 1)))))
