// Messages on their way to the gateway. Kept in the browser's storage with their idempotency key,
// so that one typed while the server is away is sent once when it is back, even after a reload.

import { ApiError, newId, post } from "./api.js";

const KEY = "fased.outbox";
const RETRY_FIRST_MS = 500;
const RETRY_CAP_MS = 5000;

export class Outbox {
  // `onSent(item, event)`, `onRefused(item, error)`, `onWaiting(error)` say what became of it.
  constructor({ onSent, onRefused, onWaiting }) {
    this.onSent = onSent;
    this.onRefused = onRefused;
    this.onWaiting = onWaiting;
    this.isSending = false;
    this.failures = 0;
    this.timer = 0;
  }

  add(conversation, text, replyToId) {
    const item = { id: newId(), conversation, text, replyToId, at: new Date().toISOString() };
    this.#save([...this.items(), item]);
    this.flush();
    return item;
  }

  items() {
    try {
      const stored = JSON.parse(localStorage.getItem(KEY) ?? "[]");
      return Array.isArray(stored) ? stored : [];
    } catch {
      return [];
    }
  }

  // Sends what waits, in order; called again whenever the server may be back.
  async flush() {
    clearTimeout(this.timer);
    if (this.isSending) return;
    this.isSending = true;
    try {
      for (let item; (item = this.items()[0]); ) await this.#send(item);
      this.failures = 0;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.onWaiting(error);
      if (error.status !== 401) this.#retryLater();
    } finally {
      this.isSending = false;
    }
  }

  clear() {
    localStorage.removeItem(KEY);
  }

  async #send(item) {
    const body = { text: item.text, replyToId: item.replyToId };
    let sent;
    try {
      sent = await post(`/${item.conversation}/messages`, body, { "Idempotency-Key": item.id });
    } catch (error) {
      if (!(error instanceof ApiError) || error.isPassing || error.status === 401) throw error;
      this.#remove(item);
      this.onRefused(item, error);
      return;
    }
    this.#remove(item);
    this.onSent(item, sent.event);
  }

  #retryLater() {
    const delay = Math.min(RETRY_FIRST_MS * 2 ** this.failures, RETRY_CAP_MS);
    this.failures += 1;
    this.timer = setTimeout(() => this.flush(), delay * (0.75 + Math.random() / 2));
  }

  #remove(item) {
    this.#save(this.items().filter((each) => each.id !== item.id));
  }

  #save(items) {
    localStorage.setItem(KEY, JSON.stringify(items));
  }
}
