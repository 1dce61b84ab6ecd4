// The list of messages. Decides how events become elements: each post and answer once, whatever
// order the page learns of them in.

import { render } from "./markdown.js";

const STATES = {
  sending: "sending…",
  waiting: "will be sent when the gateway is back",
  queued: "queued",
  thinking: "thinking…",
  answered: "",
  failed: "failed",
};
const NEAR_PX = 80;

export class Log {
  // `onReply(message)` is called when a person wants to answer a message.
  constructor({ scroller, log, partials, pending, latest, onReply }) {
    Object.assign(this, { scroller, log, partials, pending, latest, onReply });
    latest.addEventListener("click", () => this.toEnd());
    scroller.addEventListener("scroll", () => this.#noteScroll());
    this.clear("", "");
  }

  // Begins anew: `agent` speaks where an event does not say who, `me` is the caller's own id.
  clear(agent, me) {
    for (const part of [this.log, this.partials, this.pending]) part.replaceChildren();
    this.agent = agent;
    this.me = me;
    this.messages = new Map();
    this.states = new Map();
    this.said = new Set();
    this.running = new Map();
    this.latest.hidden = true;
  }

  get isEmpty() {
    return this.messages.size === 0 && this.pending.childElementCount === 0;
  }

  // One event from the stream or the latest page of history.
  apply(event) {
    const wasNear = this.#isNearEnd();
    if (event.kind === "posted") this.#posted(event, (element) => this.log.append(element));
    else if (event.kind === "said") this.#said(event, (element) => this.log.append(element));
    else if (event.kind === "state") this.#state(event.postId, event.postState);
    else if (event.kind === "partial") this.#partial(event);
    this.#follow(wasNear);
  }

  // A page of older events, oldest first: shown above, and overruled by what is known.
  prepend(events) {
    const height = this.scroller.scrollHeight;
    const before = this.log.firstChild;
    const states = new Map();
    for (const event of events) {
      if (event.kind === "state") states.set(event.postId, event.postState);
    }
    for (const [post, state] of states) if (!this.states.has(post)) this.states.set(post, state);
    const place = (element) => this.log.insertBefore(element, before);
    for (const event of events) {
      if (event.kind === "posted") this.#posted(event, place);
      else if (event.kind === "said") this.#said(event, place);
    }
    this.scroller.scrollTop += this.scroller.scrollHeight - height;
  }

  // A message that is on its way.
  addPending(item, state) {
    if (this.messages.has(item.id) || this.#pendingElement(item.id)) return;
    const message = { id: item.id, who: "You", text: item.text, at: item.at, replyToId: item.replyToId };
    const element = this.#element(message, "mine");
    this.pending.append(element);
    this.#show(element, state);
    this.toEnd();
  }

  markPending(state) {
    for (const element of this.pending.children) {
      if (!element.classList.contains("refused")) this.#show(element, state);
    }
  }

  refusePending(id, why) {
    const element = this.#pendingElement(id);
    if (!element) return;
    element.classList.add("refused", "failure");
    const state = element.querySelector(".state");
    state.textContent = `not sent: ${why}`;
    state.className = "state failed";
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.latest.hidden = true;
  }

  #posted(event, place) {
    if (this.messages.has(event.messageId)) return;
    this.#pendingElement(event.messageId)?.remove();
    const isMine = !event.sender || event.sender.id === this.me;
    const message = {
      id: event.messageId, who: isMine ? "You" : event.sender.displayName || event.sender.id,
      text: event.text, at: event.createTime, replyToId: event.replyToId,
    };
    const element = this.#element(message, isMine ? "mine" : "theirs");
    this.messages.set(message.id, message);
    place(element);
    this.#show(element, this.states.get(message.id) ?? event.postState);
  }

  #said(event, place) {
    if (this.messages.has(event.messageId)) return;
    if (event.runId) {
      this.said.add(event.runId);
      this.#endPartial(event.runId);
    }
    const message = {
      id: event.messageId, who: event.agentId || this.agent, text: event.text, at: event.createTime,
      replyToId: "",
    };
    this.messages.set(message.id, message);
    place(this.#element(message, event.messageKind || "answer"));
  }

  #state(postId, state) {
    this.states.set(postId, state);
    const element = this.log.querySelector(`[data-id="${CSS.escape(postId)}"]`);
    if (element) this.#show(element, state);
    if (state === "answered" || state === "failed") {
      for (const [runId, post] of this.running) if (post === postId) this.#endPartial(runId);
    }
  }

  #partial(event) {
    const state = this.states.get(event.postId);
    if (this.said.has(event.runId) || state === "answered" || state === "failed") return;
    let element = this.partials.querySelector(`[data-run="${event.runId}"]`);
    if (!element) {
      const message = { id: "", who: this.agent, text: "", at: event.createTime, replyToId: "" };
      element = this.#element(message, "partial");
      element.dataset.run = event.runId;
      this.partials.append(element);
      this.running.set(event.runId, event.postId);
    }
    element.querySelector(".bubble").replaceChildren(render(event.text));
  }

  #endPartial(runId) {
    this.running.delete(runId);
    this.partials.querySelector(`[data-run="${runId}"]`)?.remove();
  }

  #element(message, kind) {
    const element = document.createElement("article");
    element.className = `message ${kind}`;
    if (message.id) element.dataset.id = message.id;
    const bubble = document.createElement("div");
    bubble.className = "bubble";
    if (message.replyToId) bubble.append(this.#quote(message.replyToId));
    bubble.append(render(message.text));
    element.append(bubble, this.#meta(message));
    return element;
  }

  #meta(message) {
    const meta = document.createElement("div");
    meta.className = "meta";
    const who = document.createElement("span");
    who.className = "who";
    who.textContent = message.who;
    const time = document.createElement("time");
    const at = new Date(message.at);
    time.dateTime = message.at;
    time.textContent = shortTime(at);
    time.title = at.toLocaleString();
    const state = document.createElement("span");
    state.className = "state";
    meta.append(who, time, state);
    if (message.id) {
      const reply = document.createElement("button");
      reply.type = "button";
      reply.className = "quiet";
      reply.textContent = "Reply";
      reply.setAttribute("aria-label", `Reply to ${message.who}`);
      reply.addEventListener("click", () => this.onReply(message));
      meta.append(reply);
    }
    return meta;
  }

  #quote(id) {
    const quoted = this.messages.get(id);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quote";
    button.textContent = quoted ? `${quoted.who}: ${excerpt(quoted.text)}` : "an earlier message";
    button.addEventListener("click", () => {
      const found = this.log.querySelector(`[data-id="${CSS.escape(id)}"]`);
      if (!found) return;
      found.scrollIntoView({ block: "center" });
      found.classList.add("found");
      setTimeout(() => found.classList.remove("found"), 1500);
    });
    return button;
  }

  #show(element, state) {
    const label = element.querySelector(".state");
    label.textContent = STATES[state] ?? "";
    label.className = state === "failed" ? "state failed" : "state";
  }

  #pendingElement(id) {
    return this.pending.querySelector(`[data-id="${CSS.escape(id)}"]`);
  }

  #isNearEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_PX;
  }

  #follow(wasNear) {
    if (wasNear) this.toEnd();
    else this.latest.hidden = false;
  }

  #noteScroll() {
    if (this.#isNearEnd()) this.latest.hidden = true;
  }
}

export function excerpt(text) {
  const line = text.replaceAll(/[*`#>]+/g, "").replaceAll(/\s+/g, " ").trim();
  return line.length > 80 ? `${line.slice(0, 79)}…` : line;
}

function shortTime(at) {
  const today = new Date().toDateString() === at.toDateString();
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return today ? time : `${at.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}
