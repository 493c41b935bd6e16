;; Proves: a trap is told apart from an exit code, and its backtrace names the functions below.
(module
  (memory (export "memory") 1)
  (func $innermost unreachable)
  (func $middle (call $innermost))
  (func $start (export "_start") (call $middle)))
