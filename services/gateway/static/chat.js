// The chat page, put together: signing in, the pickers, the conversation, and the message box.

import { ApiError, get, newId, post } from "./api.js";
import { excerpt, Log } from "./log.js";
import { Outbox } from "./outbox.js";
import { Stream } from "./stream.js";

const HISTORY_PAGE = 100;
const CONNECTION = { connected: "Connected", connecting: "Connecting…", offline: "Offline, trying again…" };
const byId = (id) => document.getElementById(id);
const ui = Object.fromEntries(
  ["login", "login-form", "login-token", "login-error", "chat", "namespace", "namespace-label", "agent",
    "session", "new-session", "connection", "logout", "scroller", "earlier", "empty", "empty-title",
    "empty-text", "empty-hints", "log", "partials", "pending", "latest", "composer", "reply", "reply-who",
    "reply-text", "reply-cancel", "text", "send", "notice", "session-dialog", "session-form",
    "session-title", "session-error", "session-cancel"].map((id) => [id, byId(id)]),
);

const state = { me: "", namespace: "", conversation: null, stream: null, replyTo: null, earlierToken: "", opening: 0 };
const log = new Log({
  scroller: ui.scroller, log: ui.log, partials: ui.partials, pending: ui.pending, latest: ui.latest,
  onReply: startReply,
});
const outbox = new Outbox({
  onSent: () => {},
  onRefused: (item, error) => log.refusePending(item.id, error.message),
  onWaiting: (error) => (error.status === 401 ? askForToken() : log.markPending("waiting")),
});

// Signing in ---------------------------------------------------------------------------------

async function start() {
  const token = tokenOfAddress();
  try {
    if (token) await post("/login", { token });
    enter(await get("/me"));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.isPassing) retryStart(token);
    else askForToken(token ? error.message : "");
  }
}

function retryStart(token) {
  showChat();
  showConnection("offline");
  // A token not yet stored goes back to where a reload finds it too.
  if (token) history.replaceState(null, "", `#token=${encodeURIComponent(token)}`);
  setTimeout(start, 1500);
}

// The token of `#token=…`, which no server and no log sees; taken out of the address at once.
function tokenOfAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
  if (token) history.replaceState(null, "", location.pathname);
  return token;
}

function askForToken(why = "") {
  state.stream?.close();
  ui.chat.hidden = true;
  ui.login.hidden = false;
  say(ui["login-error"], why);
  ui["login-token"].focus();
}

function showChat() {
  ui.login.hidden = true;
  ui.chat.hidden = false;
}

ui["login-form"].addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = ui["login-token"].value.trim();
  const token = new URLSearchParams(given.split("#")[1] ?? "").get("token") ?? given;
  try {
    const caller = await post("/login", { token });
    ui["login-token"].value = "";
    enter(caller);
  } catch (error) {
    say(ui["login-error"], error.message);
  }
});

ui.logout.addEventListener("click", async () => {
  try {
    await post("/logout");
    outbox.clear();
    askForToken();
  } catch (error) {
    say(ui.notice, error.message);
  }
});

// Pickers ------------------------------------------------------------------------------------

async function enter(caller) {
  showChat();
  state.me = caller.subject;
  const named = caller.namespaces.filter((each) => each !== "*");
  const namespaces = named.length ? named : ["default"];
  fill(ui.namespace, namespaces.map((each) => [each, each]), remembered("namespace"));
  ui["namespace-label"].hidden = namespaces.length < 2;
  await chooseNamespace();
  ui.text.focus();
}

const chooseNamespace = () => guarded(async () => {
  state.namespace = ui.namespace.value;
  remember("namespace", state.namespace);
  const { agents } = await get(`${here()}/agents?pageSize=1000`);
  const options = agents.map((agent) => [idOf(agent.name), agent.displayName || idOf(agent.name)]);
  const preferred = agents.find((agent) => agent.isDefault);
  fill(ui.agent, options, remembered("agent") ?? (preferred && idOf(preferred.name)));
  for (const control of [ui.agent, ui.session, ui["new-session"], ui.text, ui.send]) {
    control.disabled = !agents.length;
  }
  if (agents.length) await chooseAgent();
  else showEmpty("There is no Agent yet", "Add one with `fased agents add`, then load this page again.");
});

const chooseAgent = (sessionKey) => guarded(async () => {
  const agent = ui.agent.value;
  remember("agent", agent);
  const query = `agentId=${encodeURIComponent(agent)}&pageSize=1000`;
  const { sessions } = await get(`${here()}/sessions?${query}`);
  const main = `agent:${agent}:main`;
  const others = sessions.filter((each) => !each.closed && each.sessionKey !== main);
  const options = [[main, "Main"], ...others.map((each) => [each.sessionKey, titleOf(each)])];
  fill(ui.session, options, sessionKey ?? remembered("session"));
  await openConversation();
});

const titleOf = (session) => session.title || session.sessionKey.split(":").slice(2).join(":");

ui.namespace.addEventListener("change", () => chooseNamespace());
ui.agent.addEventListener("change", () => chooseAgent());
ui.session.addEventListener("change", () => guarded(openConversation));
ui["new-session"].addEventListener("click", () => {
  ui["session-title"].value = "";
  say(ui["session-error"], "");
  ui["session-dialog"].showModal();
});
ui["session-cancel"].addEventListener("click", () => ui["session-dialog"].close());
ui["session-form"].addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { title: ui["session-title"].value.trim(), agentId: ui.agent.value, requestId: newId() };
  try {
    const { session } = await post(`${here()}/sessions`, body);
    ui["session-dialog"].close();
    await chooseAgent(session.sessionKey);
    ui.text.focus();
  } catch (error) {
    say(ui["session-error"], error.message);
  }
});

// The conversation ---------------------------------------------------------------------------

async function openConversation() {
  const opening = (state.opening += 1);
  state.stream?.close();
  cancelReply();
  showConnection("connecting");
  remember("session", ui.session.value);
  const body = { agentId: ui.agent.value, sessionKey: ui.session.value };
  const { conversation } = await post(`${here()}/conversations`, body);
  const page = await get(`/${conversation.name}/events?pageSize=${HISTORY_PAGE}`);
  if (opening !== state.opening) return;
  state.conversation = conversation;
  log.clear(ui.agent.selectedOptions[0]?.textContent ?? "", state.me);
  showEarlier(page.nextPageToken);
  for (const event of page.events) log.apply(event);
  for (const item of outbox.items()) if (item.conversation === conversation.name) log.addPending(item, "waiting");
  log.toEnd();
  refreshEmpty();
  outbox.flush();
  state.stream = new Stream(conversation.name, page.events.at(-1)?.sequence ?? 0, {
    onEvent: (event) => {
      log.apply(event);
      refreshEmpty();
    },
    onState: (connection) => {
      showConnection(connection);
      if (connection === "connected") outbox.flush();
    },
    onLost: (error) => (error?.status === 401 ? askForToken(error.message) : guarded(openConversation)),
  });
}

ui.earlier.addEventListener("click", () => guarded(async () => {
  const token = encodeURIComponent(state.earlierToken);
  const page = await get(
    `/${state.conversation.name}/events?pageSize=${HISTORY_PAGE}&pageToken=${token}`);
  log.prepend(page.events);
  showEarlier(page.nextPageToken);
}));

function showEarlier(token) {
  state.earlierToken = token;
  ui.earlier.hidden = !token;
}

function refreshEmpty() {
  if (!log.isEmpty) ui.empty.hidden = true;
  else showEmpty("Nothing here yet", `Write to ${log.agent} below. What is said in this session stays in it.`);
}

function showEmpty(title, text) {
  ui["empty-title"].textContent = title;
  ui["empty-text"].textContent = text;
  ui["empty-hints"].hidden = !ui.agent.options.length;
  ui.empty.hidden = false;
}

function showConnection(connection) {
  ui.connection.dataset.state = connection;
  ui.connection.textContent = CONNECTION[connection];
}

// The message box ----------------------------------------------------------------------------

function submit() {
  const text = ui.text.value.trim();
  if (!text || !state.conversation) return;
  say(ui.notice, "");
  try {
    const item = outbox.add(state.conversation.name, text, state.replyTo?.id ?? "");
    log.addPending(item, "sending");
  } catch {
    say(ui.notice, "The browser's storage is full or closed; the message was not sent.");
    return;
  }
  ui.text.value = "";
  fitText();
  cancelReply();
  refreshEmpty();
}

function startReply(message) {
  state.replyTo = message;
  ui["reply-who"].textContent = message.who;
  ui["reply-text"].textContent = excerpt(message.text);
  ui.reply.hidden = false;
  ui.text.focus();
}

function cancelReply() {
  state.replyTo = null;
  ui.reply.hidden = true;
}

function fitText() {
  ui.text.style.height = "auto";
  ui.text.style.height = `${ui.text.scrollHeight + 2}px`;
}

ui.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
ui.text.addEventListener("input", fitText);
ui.text.addEventListener("keydown", (event) => {
  // A word being composed (Japanese, Chinese, …) takes its Enter for itself.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  } else if (event.key === "Escape") cancelReply();
});
ui["reply-cancel"].addEventListener("click", () => {
  cancelReply();
  ui.text.focus();
});
window.addEventListener("online", () => outbox.flush());

// Small things -------------------------------------------------------------------------------

const here = () => `/namespaces/${encodeURIComponent(state.namespace)}`;
const idOf = (name) => name.split("/").slice(3).join("/");

// Runs a step that calls the gateway: asks for a token, tries again later, or says what is wrong.
async function guarded(step) {
  try {
    await step();
    say(ui.notice, "");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) askForToken(error.message);
    else if (error.isPassing) {
      showConnection("offline");
      setTimeout(() => guarded(step), 1500);
    } else say(ui.notice, error.message);
  }
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}

function say(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

function remember(key, value) {
  try {
    localStorage.setItem(`fased.${key}`, value);
  } catch {
    // A browser without storage asks again next time.
  }
}

function remembered(key) {
  try {
    return localStorage.getItem(`fased.${key}`) ?? undefined;
  } catch {
    return undefined;
  }
}

window.addEventListener("hashchange", () => start());
start();
