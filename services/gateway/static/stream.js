// The stream of a conversation. Decides when it is opened again, so that every stored event comes
// once and in order; it goes on after the last sequence it saw.

import { get } from "./api.js";

const KINDS = ["posted", "said", "state", "partial"];
const RETRY_FIRST_MS = 500;
const RETRY_CAP_MS = 5000;

export class Stream {
  // `onEvent(event)`; `onState("connected" | "connecting" | "offline")`; `onLost(error)` when the
  // conversation, or the right to read it, is gone.
  constructor(conversation, sequence, { onEvent, onState, onLost }) {
    Object.assign(this, { conversation, sequence, onEvent, onState, onLost });
    this.failures = 0;
    this.isClosed = false;
    this.#open();
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.source?.close();
  }

  #open() {
    this.source = new EventSource(`/api/v1/${this.conversation}/stream?after=${this.sequence}`);
    this.source.onopen = () => {
      this.failures = 0;
      this.onState("connected");
    };
    this.source.onerror = () => this.#interrupted();
    for (const kind of KINDS) {
      this.source.addEventListener(kind, (message) => this.#take(JSON.parse(message.data)));
    }
  }

  #take(event) {
    if (event.sequence) {
      if (event.sequence <= this.sequence) return;
      this.sequence = event.sequence;
    }
    this.onEvent(event);
  }

  // The browser's own reconnecting gives up on an error status, so that this page does it.
  #interrupted() {
    this.source.close();
    if (this.isClosed) return;
    this.onState(this.failures < 2 ? "connecting" : "offline");
    const delay = Math.min(RETRY_FIRST_MS * 2 ** this.failures, RETRY_CAP_MS);
    this.failures += 1;
    this.timer = setTimeout(() => this.#reopen(), delay * (0.75 + Math.random() / 2));
  }

  async #reopen() {
    try {
      const page = await get(`/${this.conversation}/events?pageSize=1`);
      const last = page.events.at(-1)?.sequence ?? 0;
      if (this.isClosed) return;
      if (last < this.sequence) this.onLost(null);
      else this.#open();
    } catch (error) {
      if (this.isClosed) return;
      if (error.isPassing) this.#interrupted();
      else this.onLost(error);
    }
  }
}
