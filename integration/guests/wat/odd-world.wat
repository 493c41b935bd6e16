;; Proves: a valid component that is neither a command nor an HTTP handler is refused with a message
;; that names what it exports (`answer`) and the worlds that are supported.
(component
  (core module $code
    (func (export "answer") (result i32) (i32.const 42)))
  (core instance $instance (instantiate $code))
  (func (export "answer") (result u32)
    (canon lift (core func $instance "answer"))))
