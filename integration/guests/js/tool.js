// Proves: a `wasi:cli/command` component made from JavaScript (QuickJS inside) sees the container's arguments,
// environment and files, and ends with the exit code it asks for, by WASI's `exit-with-code`. See `usage`.
import environment from "wasi:cli/environment@0.2.12";
import exit from "wasi:cli/exit@0.2.12";
import stdout from "wasi:cli/stdout@0.2.12";
import stderr from "wasi:cli/stderr@0.2.12";
import clock from "wasi:clocks/monotonic-clock@0.2.12";
import preopens from "wasi:filesystem/preopens@0.2.12";

const usage = `usage: tool-js COMMAND [ARGUMENT...]; without a command: print one line and exit
  args [ANY...]    print the arguments, one a line, as argv[N]=VALUE
  env              print the environment, one NAME=VALUE a line
  cat FILE         copy FILE to stdout
  write FILE TEXT  make or replace FILE with TEXT and a newline
  sleep SECONDS    sleep; fractions are allowed
  exit N           exit with code N
  throw TEXT       throw an error with TEXT
`;

// The most that one `blocking-write-and-flush` takes (wasi:io), and what is asked for at once.
const PART = 4096;

// QuickJS has no TextEncoder of its own.
function encode(text) {
  const escaped = encodeURIComponent(text);
  const bytes = [];
  for (let at = 0; at < escaped.length; at++) {
    if (escaped[at] === "%") {
      bytes.push(parseInt(escaped.slice(at + 1, at + 3), 16));
      at += 2;
    } else {
      bytes.push(escaped.charCodeAt(at));
    }
  }
  return new Uint8Array(bytes);
}

function writeAll(stream, bytes) {
  for (let from = 0; from < bytes.length; from += PART) {
    stream.blockingWriteAndFlush(bytes.subarray(from, from + PART));
  }
}

const print = (line) => writeAll(stdout.getStdout(), encode(`${line}\n`));
const complain = (text) => writeAll(stderr.getStderr(), encode(text));

// The directory that `path` is in, of those the host has opened, and the rest of the path.
function locate(path) {
  const [root, name] = preopens.getDirectories().find(([, name]) => path.startsWith(name));
  return [root, path.slice(name.length).replace(/^\/+/, "")];
}

function open(path, openFlags, flags) {
  const [root, rest] = locate(path);
  try {
    return root.openAt({ symlinkFollow: true }, rest, openFlags, flags);
  } catch (code) {
    throw new Error(`${path}: ${reason(code)}`);
  }
}

// The code of a failed call: what a binding throws is the code or an error that holds it.
const reason = (thrown) => thrown?.payload ?? thrown?.message ?? thrown;

function cat(path) {
  const file = open(path, {}, { read: true });
  for (let offset = 0, end = false; !end; ) {
    let bytes;
    [bytes, end] = file.read(PART, offset);
    offset += bytes.length;
    writeAll(stdout.getStdout(), Uint8Array.from(bytes));
  }
}

function write(path, text) {
  const file = open(path, { create: true, truncate: true }, { write: true });
  const bytes = encode(text);
  for (let offset = 0; offset < bytes.length; ) {
    offset += Number(file.write(bytes.subarray(offset), offset));
  }
}

// The exit code.
function main(argv) {
  const [command, ...words] = argv.slice(1);
  if (command === undefined) {
    print("hello from javascript");
  } else if (command === "args") {
    argv.forEach((value, at) => print(`argv[${at}]=${value}`));
  } else if (command === "env" && words.length === 0) {
    environment.getEnvironment().forEach(([name, value]) => print(`${name}=${value}`));
  } else if (command === "cat" && words.length === 1) {
    cat(words[0]);
  } else if (command === "write" && words.length === 2) {
    write(words[0], `${words[1]}\n`);
  } else if (command === "sleep" && words.length === 1) {
    clock.subscribeDuration(Math.round(Number(words[0]) * 1e9)).block();
  } else if (command === "exit" && words.length === 1) {
    return Number(words[0]);
  } else if (command === "throw" && words.length === 1) {
    throw new Error(words[0]);
  } else {
    complain(usage);
    return 2;
  }
  return 0;
}

export const run = {
  run() {
    let code;
    try {
      code = main(environment.getArguments());
    } catch (error) {
      complain(`tool-js: ${reason(error)}\n`);
      code = 1;
    }
    // `run` itself can only tell success from failure.
    exit.exitWithCode(code);
  },
};
