// Proves: a `wasi:http/incoming-handler` component made by Go's own compiler, with its runtime, as componentize-go makes
// them. Each path shows one thing:
//
//	/            200, `hello from go`
//	/echo        200, the request's body
//	/env         200, the environment, one NAME=VALUE a line
//	/sleep?ms=N  200 after N milliseconds
//	others       404
//
// The package's name is the one by which the bindings look for the export.
package export_wasi_http_incoming_handler

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	wit "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/wasi_http_types"
	"wit_component/wasi_io_streams"
)

// The most that one `blocking-write-and-flush` takes (wasi:io), and what is asked for at once.
const part = 4096

// Handle is the component's export.
func Handle(request *wasi_http_types.IncomingRequest, out *wasi_http_types.ResponseOutparam) {
	defer request.Drop()
	status, content := answer(request)
	contentType := wit.Tuple2[string, []byte]{F0: "content-type", F1: []byte("text/plain")}
	headers := wasi_http_types.FieldsFromList([]wit.Tuple2[string, []byte]{contentType}).Ok()
	response := wasi_http_types.MakeOutgoingResponse(headers)
	response.SetStatusCode(status)
	body := response.Body().Ok()
	wasi_http_types.ResponseOutparamSet(out, wit.Ok[*wasi_http_types.OutgoingResponse, wasi_http_types.ErrorCode](response))
	if write(body, content) {
		wasi_http_types.OutgoingBodyFinish(body, wit.None[*wasi_http_types.Fields]())
	} else {
		body.Drop()
	}
}

// answer gives status and body of the response.
func answer(request *wasi_http_types.IncomingRequest) (uint16, []byte) {
	target, err := url.ParseRequestURI(request.PathWithQuery().SomeOr("/"))
	if err != nil {
		return 400, []byte(err.Error() + "\n")
	}
	switch target.Path {
	case "/":
		return 200, []byte("hello from go\n")
	case "/echo":
		return 200, bodyOf(request)
	case "/env":
		return 200, []byte(strings.Join(append(os.Environ(), ""), "\n"))
	case "/sleep":
		milliseconds, err := strconv.Atoi(target.Query().Get("ms"))
		if err != nil {
			return 400, []byte(err.Error() + "\n")
		}
		time.Sleep(time.Duration(milliseconds) * time.Millisecond)
		return 200, fmt.Appendf(nil, "slept %d ms\n", milliseconds)
	default:
		return 404, fmt.Appendf(nil, "no such path: %s\n", target.Path)
	}
}

// bodyOf is all of the request's body.
func bodyOf(request *wasi_http_types.IncomingRequest) []byte {
	body := request.Consume().Ok()
	defer body.Drop()
	stream := body.Stream().Ok()
	defer stream.Drop()
	var content []byte
	for {
		read := stream.BlockingRead(part)
		if read.IsErr() {
			return content
		}
		content = append(content, read.Ok()...)
	}
}

// write says whether the client took it all.
func write(body *wasi_http_types.OutgoingBody, content []byte) bool {
	stream := body.Write().Ok()
	defer stream.Drop()
	for len(content) > 0 {
		length := min(part, len(content))
		if written := stream.BlockingWriteAndFlush(content[:length]); written.IsErr() {
			return written.Err().Tag() == wasi_io_streams.StreamErrorClosed
		}
		content = content[length:]
	}
	return true
}
