// A parser for event streams (HTML standard, 9.2.6), for what EventSource cannot do: POST, headers, status codes.
//
// fetch() delivers the body in pieces that end anywhere: inside a line, between CR and LF, inside a character. So text
// is decoded with { stream: true }, which holds back half a character, and the parser keeps half a line.

export class EventStreamParser {
  #onEvent;
  #line = '';      // the start of a line whose end has not come yet
  #afterCR = false; // the last piece ended in CR: an LF at the start of the next belongs to it
  #data = '';
  #name = '';
  #lastID = '';    // survives its event, as EventSource's lastEventId does

  /** onEvent is called with { name, data, lastEventId } for each event, in order. */
  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  /** Takes the next piece of decoded text (TextDecoder has taken the byte order mark off). */
  feed(text) {
    let start = 0;
    if (this.#afterCR && text !== '') {
      this.#afterCR = false;
      if (text[0] === '\n') start = 1;
    }
    const ends = /\r\n?|\n/g;
    ends.lastIndex = start;
    for (let end; (end = ends.exec(text)) !== null; start = ends.lastIndex) {
      const line = this.#line + text.slice(start, end.index);
      this.#line = '';
      // Before takeLine, whose callback may throw: the state is that after this line then.
      if (end[0] === '\r' && ends.lastIndex === text.length) this.#afterCR = true;
      this.#takeLine(line);
    }
    this.#line += text.slice(start);
  }

  // There is no end(): an event whose blank line never came is not complete, and is dropped.

  #takeLine(line) {
    if (line === '') {
      this.#dispatch();
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return; // a comment: the heartbeat of an idle stream
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value[0] === ' ') value = value.slice(1);
    switch (field) {
      case 'data': this.#data += value + '\n'; break;
      case 'event': this.#name = value; break;
      case 'id': if (!value.includes('\0')) this.#lastID = value; break;
      // retry is for those who reconnect; other names are ignored
    }
  }

  #dispatch() {
    const name = this.#name || 'message';
    const data = this.#data;
    this.#name = this.#data = '';
    if (data === '') return; // no data line at all: nothing to tell
    this.#onEvent({ name, data: data.slice(0, -1), lastEventId: this.#lastID });
  }
}

/** Reads an event stream from a fetch() response to its end. Rejects when the connection breaks. */
export async function readEventStream(response, onEvent, onText = () => {}) {
  const parser = new EventStreamParser(onEvent);
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const text = decoder.decode(value, { stream: true });
      onText(text);
      parser.feed(text);
    }
  } finally {
    // After an exception of onEvent: let the connection go. After the end it does nothing.
    reader.cancel().catch(() => {});
  }
}
