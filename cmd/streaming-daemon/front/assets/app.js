// The page: two panels that show the same stream, read in two ways.

import { readEventStream } from '/sse.js';

const textMax = 50_000; // characters shown per panel; a stream of load-test messages goes on without them
const rawMax = 50_000;  // characters of the raw view: the latest are kept

/** One panel: what it shows, and when. It knows nothing of how events are read. */
class Panel {
  #parts = {};
  #buttons = {};
  #pendingText = '';
  #pendingRaw = '';
  #frame = 0;
  #shown = 0;
  #startedAt = 0;
  #events = 0;

  constructor(id) {
    this.root = document.getElementById(id);
    for (const e of this.root.querySelectorAll('[data-part]')) this.#parts[e.dataset.part] = e;
    for (const e of this.root.querySelectorAll('[data-action]')) this.#buttons[e.dataset.action] = e;
    this.output = this.root.querySelector('.output');
  }

  /** on calls f when the button is pressed. */
  on(action, f) {
    this.#buttons[action].addEventListener('click', f);
  }

  begin() {
    this.#events = this.#shown = 0;
    this.#pendingText = this.#pendingRaw = '';
    this.#parts.text.replaceChildren();
    this.#parts.raw.textContent = '';
    this.#parts.problem.hidden = true;
    this.#parts.first.textContent = '–';
    this.#parts.events.textContent = '0';
    this.#setRunning(true);
    this.state('Connecting …', 'busy');
    this.#startedAt = performance.now();
  }

  event() {
    if (this.#events++ === 0) {
      this.#parts.first.textContent = duration(performance.now() - this.#startedAt);
      this.state('Streaming', 'busy');
    }
    this.#draw();
  }

  text(s) {
    this.#pendingText += s;
    this.#draw();
  }

  raw(s) {
    this.#pendingRaw = (this.#pendingRaw + s).slice(-rawMax);
    this.#draw();
  }

  state(text, kind = '') {
    this.#parts.state.textContent = text;
    this.root.dataset.kind = kind;
  }

  /** problem is shown beside the text that came before it; the stream may go on. */
  problem(text) {
    this.#parts.problem.textContent = text;
    this.#parts.problem.hidden = false;
  }

  end(reason, kind) {
    this.#flush();
    this.state(`${reason} after ${duration(performance.now() - this.#startedAt)}`, kind);
    this.#setRunning(false);
  }

  #setRunning(running) {
    const { start, stop } = this.#buttons;
    const leaving = running ? start : stop;
    const hadFocus = document.activeElement === leaving;
    start.disabled = running;
    stop.disabled = !running;
    if (hadFocus) (running ? stop : start).focus(); // a disabled button would lose the keyboard its place
    // While busy, screen readers wait: they read the text once, not a word at a time over each other.
    this.output.setAttribute('aria-busy', String(running));
  }

  // Events may come by the thousand a second: the page changes once a frame.
  #draw() {
    this.#frame ||= requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#parts.events.textContent = this.#events.toLocaleString('en');
    const atEnd = this.output.scrollTop + this.output.clientHeight >= this.output.scrollHeight - 8;
    const room = textMax - this.#shown;
    if (this.#pendingText !== '' && room > 0) {
      const word = document.createElement('span');
      word.textContent = this.#pendingText.slice(0, room) + (this.#pendingText.length > room ? ' […]' : '');
      this.#shown += this.#pendingText.length;
      this.#parts.text.append(word);
      if (atEnd) this.output.scrollTop = this.output.scrollHeight; // someone who scrolled up is left there
    }
    this.#pendingText = '';
    if (this.#pendingRaw !== '') {
      const raw = this.#parts.raw;
      raw.append(this.#pendingRaw);
      if (raw.textContent.length > 2 * rawMax) raw.textContent = raw.textContent.slice(-rawMax);
      raw.scrollTop = raw.scrollHeight;
      this.#pendingRaw = '';
    }
  }
}

function duration(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

/** contentOf gives the text of an event, or the event itself where it is no {"content":"…"}. */
function contentOf(data) {
  try {
    const { content } = JSON.parse(data);
    if (typeof content === 'string') return content;
  } catch { /* another backend's format: show it as it is */ }
  return data + '\n';
}

/** messageOf gives the message of {"error":{"message":"…"}}. */
function messageOf(data) {
  try {
    const { error } = JSON.parse(data);
    if (typeof error.message === 'string') return error.message;
  } catch { /* not ours */ }
  return data.trim();
}

/** EventSource: the browser connects, parses and reconnects. */
function runEventSource(panel, prompt) {
  panel.begin();
  let overloaded = false;
  const source = new EventSource('/stream?prompt=' + encodeURIComponent(prompt));
  const end = (reason, kind) => {
    source.close();
    panel.end(reason, kind);
    running.delete(panel);
  };
  const see = (event) => {
    panel.event();
    panel.raw(`${event.type}: ${event.data}\n`);
  };
  source.onmessage = (event) => {
    overloaded = false;
    see(event);
    if (event.data === '[DONE]') {
      // Closed here and now: left alone, an EventSource takes the end of the response for a lost connection,
      // reconnects, and the prompt is repeated without end.
      end('Done', 'ok');
      return;
    }
    panel.text(contentOf(event.data));
  };
  // With -reject sse an overloaded daemon says so in an event and ends the response. Nothing has been shown yet, so
  // reconnecting is just right: the browser does it by itself, after the event's retry time.
  source.addEventListener('overloaded', (event) => {
    overloaded = true;
    see(event);
    panel.problem(`Overloaded: ${messageOf(event.data)}.`);
    panel.state('Waiting to try again', 'busy');
  });
  // Two things have the name "error": events of the stream called so, which carry data, and the browser's own.
  source.addEventListener('error', (event) => {
    if (event instanceof MessageEvent) {
      see(event);
      panel.problem(`The stream failed: ${messageOf(event.data)}.`);
      end('Failed', 'bad');
    } else if (source.readyState === EventSource.CLOSED) {
      panel.problem('The server refused the stream. EventSource does not tell the status; fetch() does.');
      end('Refused', 'bad');
    } else if (!overloaded) {
      // It would reconnect now, and the text would start over.
      panel.problem('The connection was lost before [DONE].');
      end('Cut off', 'bad');
    }
  });
  return () => end('Stopped', '');
}

/** fetch(): any method, headers and status codes; the parser is ours. */
function runFetch(panel, prompt) {
  panel.begin();
  const abort = new AbortController();
  let over = false; // true once the panel's end is shown; what still comes after an abort is not for it
  const end = (reason, kind) => {
    over = true;
    panel.end(reason, kind);
    running.delete(panel);
  };
  let failure = 'Cut off'; // the state to show if what is under way throws
  const take = (event) => {
    if (over) return;
    panel.event();
    if (event.name === 'error') {
      failure = 'Failed';
      throw new Error(`The stream failed: ${messageOf(event.data)}.`);
    }
    if (event.name === 'overloaded') {
      failure = 'Refused';
      throw new Error(`Overloaded: ${messageOf(event.data)}.`);
    }
    if (event.data === '[DONE]') end('Done', 'ok');
    else panel.text(contentOf(event.data));
  };
  (async () => {
    const response = await fetch('/stream', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'text/event-stream' },
      body: JSON.stringify({ prompt }),
      signal: abort.signal,
      cache: 'no-store',
    });
    if (!response.ok) {
      failure = `Refused (${response.status})`;
      const body = await response.text();
      panel.raw(body);
      const after = response.headers.get('Retry-After');
      throw new Error(`${response.status}: ${messageOf(body)}.` + (after ? ` Try again in ${after} s.` : ''));
    }
    await readEventStream(response, take, (text) => over || panel.raw(text));
    if (!over) throw new Error('The response ended before [DONE].');
  })().catch((error) => {
    if (over) return; // stopped, or cut off behind [DONE]
    // A TypeError is fetch()'s word for every failure of the network.
    panel.problem(error instanceof TypeError ? `The connection failed (${error.message}).` : error.message);
    end(failure, 'bad');
  });
  return () => {
    abort.abort();
    end('Stopped', '');
  };
}

const running = new Map(); // panel → the function that stops it, exactly while its stream runs
const prompt = document.getElementById('prompt');
const sides = [
  [new Panel('es'), runEventSource],
  [new Panel('fetch'), runFetch],
];

for (const [panel, run] of sides) {
  panel.on('start', () => running.set(panel, run(panel, prompt.value)));
  panel.on('stop', () => running.get(panel)?.());
}

const form = document.getElementById('form');
form.addEventListener('submit', (event) => {
  event.preventDefault(); // without JavaScript the form opens /stream by itself
  for (const [panel, run] of sides) {
    running.get(panel)?.();
    running.set(panel, run(panel, prompt.value));
  }
});
prompt.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
