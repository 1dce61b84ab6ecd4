// Markdown to elements, a safe subset: every text goes through text nodes, never through HTML.
// Decides what is rendered: fences, headings, lists, quotes, rules, code, bold, italics, links.

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const BULLET = /^(\s*)[-*+]\s+(.*)$/;
const NUMBER = /^(\s*)(\d{1,9})[.)]\s+(.*)$/;
const QUOTE = /^\s{0,3}>\s?(.*)$/;
const RULE = /^\s{0,3}([-*_])(?:\s*\1){2,}\s*$/;
const LINK_TARGET = /^(https?:\/\/|mailto:)/i;
const INLINE = [
  ["code", /`([^`]+)`/],
  ["link", /\[([^\]\n]{1,500})\]\(([^()\s]{1,2000})\)/],
  ["bold", /\*\*(?=\S)([^*\n]+(?:\*[^*\n]+\*[^*\n]*)*)\*\*|__(?=\S)([^_\n]+)__/],
  ["italic", /\*(?=\S)([^*\n]+)\*|(?<![\w])_(?=\S)([^_\n]+)_(?![\w])/],
  ["url", /https?:\/\/[^\s<>"'`]{1,2000}/],
];

export function render(text) {
  const fragment = document.createDocumentFragment();
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  let at = 0;
  while (at < lines.length) at = block(fragment, lines, at);
  return fragment;
}

// Appends the block that begins at a line, and gives the line after it.
function block(parent, lines, at) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return codeBlock(parent, lines, at, fence);
  if (line.trim() === "") return at + 1;
  if (RULE.test(line)) {
    parent.append(document.createElement("hr"));
    return at + 1;
  }
  const heading = HEADING.exec(line);
  if (heading) {
    parent.append(withInline(`h${Math.min(heading[1].length + 2, 5)}`, heading[2]));
    return at + 1;
  }
  if (QUOTE.test(line)) return quote(parent, lines, at);
  if (BULLET.test(line) || NUMBER.test(line)) return list(parent, lines, at);
  return paragraph(parent, lines, at);
}

function codeBlock(parent, lines, at, fence) {
  const closing = fence[1];
  let end = at + 1;
  while (end < lines.length && !isClosing(lines[end], closing)) end += 1;
  const code = document.createElement("code");
  code.textContent = lines.slice(at + 1, end).join("\n");
  if (fence[2]) code.dataset.language = fence[2];
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  pre.append(code);
  parent.append(pre);
  return end + 1;
}

function isClosing(line, opening) {
  const trimmed = line.trim();
  return trimmed.length >= opening.length && trimmed === opening[0].repeat(trimmed.length);
}

function quote(parent, lines, at) {
  const inner = [];
  let end = at;
  for (let match; end < lines.length && (match = QUOTE.exec(lines[end])); end += 1) inner.push(match[1]);
  const element = document.createElement("blockquote");
  element.append(paragraphOf(inner.join("\n")));
  parent.append(element);
  return end;
}

// One level of nesting is shown; deeper items stay at the second.
function list(parent, lines, at) {
  const ordered = NUMBER.exec(lines[at]);
  const root = document.createElement(ordered ? "ol" : "ul");
  if (ordered && ordered[2] !== "1") root.start = Number(ordered[2]);
  let last = null;
  let end = at;
  for (; end < lines.length; end += 1) {
    const number = NUMBER.exec(lines[end]);
    const item = number ?? BULLET.exec(lines[end]);
    if (!item) {
      if (!last || lines[end].trim() === "" || !/^\s{2,}/.test(lines[end])) break;
      last.append("\n", ...inline(lines[end].trim()));
      continue;
    }
    if (item[1].length < 2 && Boolean(number) !== Boolean(ordered)) break;
    const element = withInline("li", item[item.length - 1]);
    if (item[1].length >= 2 && last) nest(root, number, element);
    else root.append(element);
    last = element;
  }
  parent.append(root);
  return end;
}

function nest(root, number, element) {
  const holder = root.lastElementChild;
  const tag = number ? "OL" : "UL";
  let inner = holder.lastElementChild;
  if (inner?.tagName !== tag) {
    inner = document.createElement(tag);
    holder.append(inner);
  }
  inner.append(element);
}

function paragraph(parent, lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== "" && !beginsBlock(lines[end])) end += 1;
  parent.append(paragraphOf(lines.slice(at, end).join("\n")));
  return end;
}

function beginsBlock(line) {
  return [FENCE, HEADING, BULLET, NUMBER, QUOTE].some((pattern) => pattern.test(line));
}

const paragraphOf = (text) => withInline("p", text);

function withInline(tag, text) {
  const element = document.createElement(tag);
  element.append(...inline(text));
  return element;
}

function inline(text) {
  const nodes = [];
  let rest = text;
  while (rest) {
    const found = firstMatch(rest);
    if (!found) break;
    const { kind, match } = found;
    if (match.index) nodes.push(document.createTextNode(rest.slice(0, match.index)));
    const { node, length } = span(kind, match);
    nodes.push(node);
    rest = rest.slice(match.index + length);
  }
  if (rest) nodes.push(document.createTextNode(rest));
  return nodes;
}

function firstMatch(text) {
  let first = null;
  for (const [kind, pattern] of INLINE) {
    const match = pattern.exec(text);
    if (match && (!first || match.index < first.match.index)) first = { kind, match };
  }
  return first;
}

function span(kind, match) {
  const length = match[0].length;
  if (kind === "code") {
    const code = document.createElement("code");
    code.textContent = match[1];
    return { node: code, length };
  }
  if (kind === "link" && LINK_TARGET.test(match[2])) {
    return { node: link(match[2], inline(match[1])), length };
  }
  if (kind === "url") {
    const url = match[0].replace(/[.,;:!?)\]]+$/, "");
    return { node: link(url, [document.createTextNode(url)]), length: url.length };
  }
  if (kind === "bold") return { node: withInline("strong", match[1] ?? match[2]), length };
  if (kind === "italic") return { node: withInline("em", match[1] ?? match[2]), length };
  return { node: document.createTextNode(match[0]), length };
}

function link(target, nodes) {
  const element = document.createElement("a");
  element.href = target;
  element.target = "_blank";
  element.rel = "noopener noreferrer nofollow";
  element.append(...nodes);
  return element;
}
