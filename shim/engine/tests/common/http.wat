(module
  (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.0" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-response.body" (func $body (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-body.write" (func $stream (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.0" "[static]response-outparam.set"
    (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-request.path-with-query" (func $path (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-request.consume" (func $consume (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-body.stream" (func $incoming (param i32 i32)))
  (import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $drop_stream (param i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $after (param i64) (result i32)))
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "hello\n")
  (data (i32.const 200) "request\n")
  ;; Allocated are the request's path and parts of its body, one after the other is done with.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  ;; The path's first letter is at 28.
  (func $is (param $letter i32) (result i32) (i32.eq (i32.load8_u (i32.const 28)) (local.get $letter)))
  (func $read_all (param $request i32)
    (local $from i32)
    (call $consume (local.get $request) (i32.const 32))
    (call $incoming (i32.load (i32.const 36)) (i32.const 40))
    (local.set $from (i32.load (i32.const 44)))
    (loop $more
      (call $read (local.get $from) (i64.const 4096) (i32.const 48))
      (br_if $more (i32.eqz (i32.load8_u (i32.const 48)))))
    ;; An end is `closed`; `last-operation-failed` is not.
    (if (i32.eqz (i32.load8_u (i32.const 52))) (then unreachable)))
  (func $write_for_ever (param $to i32)
    (loop $more
      (call $write (local.get $to) (i32.const 12288) (i32.const 4096) (i32.const 64))
      (br_if $more (i32.eqz (i32.load8_u (i32.const 64))))))
  (func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
    (local $answer i32) (local $content i32) (local $to i32)
    (call $write (call $stdout) (i32.const 200) (i32.const 8) (i32.const 64))
    ;; option<string> at 16: whether, pointer, length.
    (call $path (local.get $request) (i32.const 16))
    (if (i32.gt_u (i32.load (i32.const 24)) (i32.const 1))
      (then (i32.store8 (i32.const 28) (i32.load8_u (i32.add (i32.load (i32.const 20)) (i32.const 1))))))
    (if (call $is (i32.const 0x62)) (then (call $read_all (local.get $request)))) ;; /body
    (if (call $is (i32.const 0x74)) (then unreachable)) ;; /trap
    (if (call $is (i32.const 0x6e)) (then return)) ;; /none
    (if (call $is (i32.const 0x6c)) (then (loop $l (br $l)))) ;; /loop
    (if (call $is (i32.const 0x73)) (then (call $block (call $after (i64.const 1000000000))))) ;; /slow
    (local.set $answer (call $response (call $fields)))
    (call $body (local.get $answer) (i32.const 32))
    (local.set $content (i32.load (i32.const 36)))
    (call $set (local.get $out) (i32.const 0) (local.get $answer)
      (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $stream (local.get $content) (i32.const 40))
    (local.set $to (i32.load (i32.const 44)))
    (call $write (local.get $to) (i32.const 100) (i32.const 6) (i32.const 64))
    (if (call $is (i32.const 0x66)) (then (call $write_for_ever (local.get $to)) return)) ;; /flood
    (if (call $is (i32.const 0x6d)) (then (call $block (call $after (i64.const 100000000))) unreachable)) ;; /mid
    (call $drop_stream (local.get $to))
    (call $finish (local.get $content) (i32.const 0) (i32.const 0) (i32.const 64))))
