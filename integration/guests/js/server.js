// Proves: a `wasi:http` component made from JavaScript (StarlingMonkey inside), written as JavaScript servers are: for
// the `fetch` event. Each path shows one thing:
//
//   /            200, `hello from javascript`
//   /echo        200, the request's body
//   /sleep?ms=N  200 after N milliseconds
//   others       404
async function answer(request) {
  const url = new URL(request.url);
  switch (url.pathname) {
    case "/":
      return new Response("hello from javascript\n");
    case "/echo":
      return new Response(await request.text());
    case "/sleep": {
      const milliseconds = Number(url.searchParams.get("ms"));
      await new Promise((done) => setTimeout(done, milliseconds));
      return new Response(`slept ${milliseconds} ms\n`);
    }
    default:
      return new Response(`no such path: ${url.pathname}\n`, { status: 404 });
  }
}

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
