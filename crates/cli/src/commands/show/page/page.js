"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const el = (id) => document.getElementById(id);
  const make = (name, className, text) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    // Foreign text only ever becomes text.
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // ---- what the page knows -------------------------------------------------------------------
  const SORTS = data.sorts;
  const MARKS = {
    session: "■", prompt: "▸", tool: "▸", process: "$", own: "▸", changed: "✎", connected: "→",
    called: "◇", plan: "☰", refused: "✖", asked: "?", note: "!", ended: "■",
  };
  const VERDICTS = ["", "allow", "ask", "deny"];
  const nodes = data.rows.map((row, index) => ({
    index,
    depth: row[0],
    sort: SORTS[row[1]],
    ms: data.begun_ms + row[2],
    seq: row[3],
    text: data.texts[row[4]],
    facts: data.texts[row[5] || 0],
    detail: data.texts[row[6] || 0],
    about: data.texts[row[7] || 0],
    count: row[8] || 1,
    verdict: VERDICTS[row[9] || 0],
    certainty: ["", "exact", "inferred"][row[10] || 0],
    out: row[11] || 0,
    into: row[12] || 0,
    failed: row[13] || 0,
    parent: -1,
    end: index + 1,
    sums: { process: 0, changed: 0, connected: 0, refused: 0, asked: 0 },
  }));
  const path = [];
  for (const node of nodes) {
    while (path.length && path[path.length - 1].depth >= node.depth) path.pop();
    if (path.length) node.parent = path[path.length - 1].index;
    path.push(node);
  }
  for (let at = nodes.length - 1; at > 0; at--) {
    const node = nodes[at], parent = nodes[node.parent];
    if (!parent) continue;
    parent.end = Math.max(parent.end, node.end);
    for (const name in node.sums) parent.sums[name] += node.sums[name];
    if (node.sort in parent.sums) parent.sums[node.sort] += node.sort === "process" ? 1 : node.count;
  }
  const hasBelow = (node) => node.end > node.index + 1;

  const pad = (number) => String(number).padStart(2, "0");
  const clock = (ms) => {
    const at = new Date(ms);
    return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  };
  const number = (value) => value.toLocaleString("en");
  const bytes = (value) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    while (value >= 1000 && unit < 4) { value /= 1000; unit++; }
    return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
  };
  const some = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;

  // ---- which lines there are -----------------------------------------------------------------
  const SMALL = 400;
  const closed = new Set();
  const foldAll = () => {
    for (const node of nodes) {
      if (hasBelow(node) && ["tool", "process", "own"].includes(node.sort)) closed.add(node.index);
    }
  };
  if (nodes.length > SMALL) foldAll();
  for (const node of nodes) if (node.sort === "own" && hasBelow(node)) closed.add(node.index);

  const SHOWN = [
    ["", "Everything"], ["judged", "Refusals and questions"], ["prompt", "Prompts"], ["tool", "Tool calls"],
    ["process", "Processes"], ["changed", "Files"], ["connected", "Connections"], ["called", "Models"], ["plan", "Plans"], ["note", "Notes"],
  ];
  const isShown = (node, sort) =>
    !sort || node.sort === sort || (sort === "judged" && (node.sort === "refused" || node.sort === "asked"));
  const holds = (text, part) => text !== "" && text.toLowerCase().includes(part);
  const matches = (node, part) =>
    !part || holds(node.text, part) || holds(node.detail, part) || holds(node.about, part);

  const table = (picked, key, columns) => {
    const rows = new Map();
    for (const node of nodes) {
      if (!node.about || !picked(node)) continue;
      let row = rows.get(node.about);
      if (!row) rows.set(node.about, row = { name: node.about, node, changes: 0, made: 0, failed: 0, out: 0, into: 0, refused: 0, asked: 0 });
      key(row, node);
    }
    return { columns, rows: [...rows.values()] };
  };
  const mark = (value, className) => value ? [number(value), className] : ["–", "none"];
  const VIEWS = [
    { name: "Story" },
    { name: "Refusals and questions", short: "Refused, asked", flat: (node) => node.sort === "refused" || node.sort === "asked",
      none: "Nothing was refused, and nobody was asked." },
    { name: "Files", none: "No file was changed.",
      ...table((node) => node.sort === "changed" || (node.about[0] === "/" && node.verdict === "deny"),
        (row, node) => { row[node.sort === "changed" ? "changes" : "refused"] += node.count; },
        [["File", "wide", (row) => [row.name]], ["changes", "", (row) => mark(row.changes, "")],
         ["refused", "", (row) => mark(row.refused, "bad")], ["first", "minor", (row) => [clock(row.node.ms)]]]) },
    { name: "Network", none: "Nothing went to the network.",
      ...table((node) => node.about[0] !== "/" && ["connected", "called", "refused", "asked"].includes(node.sort),
        (row, node) => {
          if (node.sort === "connected") { row.made += node.count - node.failed; row.failed += node.failed; }
          if (node.sort === "refused") row.refused += node.count;
          if (node.sort === "asked") row.asked += node.count;
          row.out += node.out; row.into += node.into;
        },
        [["Host", "wide", (row) => [row.name]], ["allowed", "", (row) => mark(row.made, "")],
         ["failed", "minor", (row) => mark(row.failed, "open")], ["refused", "", (row) => mark(row.refused, "bad")],
         ["asked", "", (row) => mark(row.asked, "open")], ["sent", "minor", (row) => row.out ? [bytes(row.out)] : ["–", "none"]],
         ["received", "minor", (row) => row.into ? [bytes(row.into)] : ["–", "none"]]]) },
  ];

  let view = 0, chosen = 0, lines = [];
  const collect = () => {
    const part = el("search").value.trim().toLowerCase(), sort = el("sort").value;
    const now = VIEWS[view];
    if (now.rows) {
      lines = now.rows.filter((row) => !part || holds(row.name, part));
    } else if (now.flat) {
      lines = nodes.filter((node) => now.flat(node) && matches(node, part));
    } else if (part || sort) {
      // What matches, and all above it.
      const kept = new Uint8Array(nodes.length);
      for (const node of nodes) {
        if (!isShown(node, sort) || !matches(node, part)) continue;
        for (let at = node.index; at >= 0 && !kept[at]; at = nodes[at].parent) kept[at] = 1;
      }
      lines = nodes.filter((node) => kept[node.index]);
      if (lines.length === 1 && !(isShown(lines[0], sort) && matches(lines[0], part))) lines = [];
    } else {
      lines = [];
      for (let at = 0; at < nodes.length;) {
        lines.push(nodes[at]);
        at = closed.has(at) ? nodes[at].end : at + 1;
      }
    }
    chosen = Math.min(chosen, Math.max(lines.length - 1, 0));
  };

  // ---- how they are drawn: only those on the screen exist --------------------------------------
  const list = el("list"), space = el("space");
  const rowHeight = () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
  const step = () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--step"));
  const highlighted = (target, text) => {
    const part = el("search").value.trim().toLowerCase();
    const at = part ? text.toLowerCase().indexOf(part) : -1;
    if (at < 0) { target.textContent = text; return; }
    target.append(text.slice(0, at), make("mark", "", text.slice(at, at + part.length)), text.slice(at + part.length));
  };
  const sums = (node) => {
    const of = node.sums, said = [];
    if (of.process) said.push(some(of.process, "process", "processes"));
    if (of.changed) said.push(some(of.changed, "change", "changes"));
    if (of.connected) said.push(some(of.connected, "connection", "connections"));
    return said.join(" · ");
  };
  const storyRow = (node, indent) => {
    const row = make("div", `row s-${node.sort}`);
    row.append(make("span", "time", clock(node.ms)));
    if (VIEWS[view].flat === undefined) {
      const guide = make("span", "guide");
      guide.style.width = `${node.depth * indent}px`;
      const isOpen = !closed.has(node.index) || el("search").value.trim() || el("sort").value;
      row.append(guide, make("span", "twist", hasBelow(node) ? (isOpen ? "▾" : "▸") : ""));
      row.setAttribute("aria-level", node.depth + 1);
      if (hasBelow(node)) row.setAttribute("aria-expanded", isOpen ? "true" : "false");
    }
    row.append(make("span", "mark", MARKS[node.sort]));
    const text = make("span", "text");
    highlighted(text, node.text + node.facts);
    row.append(text);
    if (hasBelow(node) && node.sort !== "session" && node.sort !== "own") {
      row.append(make("span", "sum", sums(node)));
      if (node.sums.refused) row.append(make("span", "bad", `✖ ${number(node.sums.refused)}`));
      if (node.sums.asked) row.append(make("span", "open", `? ${number(node.sums.asked)}`));
    }
    return row;
  };
  const tableRow = (entry, columns) => {
    const row = make("div", "row cells");
    for (const [, className, cell] of columns) {
      const [text, more] = cell(entry);
      const span = make("span", `cell ${className} ${more || ""}`);
      if (className === "wide") highlighted(span, text); else span.textContent = text;
      row.append(span);
    }
    return row;
  };
  let pending = 0;
  const draw = () => {
    pending = 0;
    const height = rowHeight(), indent = step(), now = VIEWS[view];
    space.style.height = `${lines.length * height}px`;
    const first = Math.max(Math.floor(list.scrollTop / height) - 8, 0);
    const last = Math.min(first + Math.ceil(list.clientHeight / height) + 16, lines.length);
    const drawn = [];
    for (let at = first; at < last; at++) {
      const row = now.rows ? tableRow(lines[at], now.columns) : storyRow(lines[at], indent);
      row.id = `row-${at}`;
      row.dataset.at = at;
      row.style.transform = `translateY(${at * height}px)`;
      row.setAttribute("role", "treeitem");
      row.setAttribute("aria-selected", at === chosen ? "true" : "false");
      drawn.push(row);
    }
    space.replaceChildren(...drawn);
    list.setAttribute("aria-activedescendant", `row-${chosen}`);
    el("empty").hidden = lines.length > 0;
    const isSearching = el("search").value.trim() || el("sort").value;
    el("empty").textContent = isSearching ? "Nothing matches." : now.none || "Nothing happened.";
    el("status").textContent = `${some(lines.length, "line", "lines")} of ${number(data.events)} events` +
      (data.more ? `, ${number(data.more)} more not on this page` : "");
  };
  const redraw = () => { if (!pending) pending = requestAnimationFrame(draw); };
  const detail = () => {
    const line = lines[chosen], box = el("detail");
    box.replaceChildren();
    const node = line && (line.node || line);
    if (!node) return;
    box.append(make("h2", "", line.node ? line.name : node.text + node.facts));
    const said = [`${clock(node.ms)} · event ${node.seq}`];
    if (node.about && !line.node && node.about !== node.text) said.push(node.about);
    if (node.verdict) said.push(`verdict ${node.verdict}`);
    if (node.certainty) said.push(node.certainty === "exact"
      ? "its command is known exactly" : "its command was inferred from order and time");
    let above = node.parent, call = null;
    for (; above > 0; above = nodes[above].parent) if (nodes[above].sort === "tool") { call = nodes[above]; break; }
    if (call) said.push(`by ${call.text}`);
    box.append(make("p", "", said.join(" · ")));
    if (node.detail && !line.node) box.append(make("pre", "", node.detail));
  };
  const choose = (at, isQuiet) => {
    if (!lines.length) { chosen = 0; detail(); redraw(); return; }
    chosen = Math.max(0, Math.min(at, lines.length - 1));
    const height = rowHeight(), top = chosen * height;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + height > list.scrollTop + list.clientHeight) list.scrollTop = top + height - list.clientHeight;
    if (!isQuiet) detail();
    redraw();
  };
  const refresh = (node) => {
    collect();
    const at = node ? lines.indexOf(node) : -1;
    choose(at >= 0 ? at : chosen);
  };
  const toggle = (node, open) => {
    if (!node || node.sort === undefined || !hasBelow(node) || VIEWS[view].flat) return;
    const isClosed = closed.has(node.index);
    if (open === undefined ? isClosed : open) closed.delete(node.index); else closed.add(node.index);
    refresh(node);
  };
  const reveal = (node) => {
    el("search").value = ""; el("sort").value = "";
    for (let at = node.parent; at >= 0; at = nodes[at].parent) closed.delete(at);
    show(0);
    refresh(node);
  };
  const next = () => {
    const judged = (node) => node.sort === "refused" || node.sort === "asked";
    const line = lines[chosen];
    const from = view === 0 && line ? line.index : -1;
    const found = nodes.find((node) => node.index > from && judged(node)) || nodes.find(judged);
    if (found) reveal(found);
  };
  const show = (which) => {
    if (which !== view) { chosen = 0; list.scrollTop = 0; }
    view = which;
    const now = VIEWS[view];
    for (const [at, tab] of [...el("tabs").children].entries()) {
      tab.setAttribute("aria-selected", at === view ? "true" : "false");
      if (at === view) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    el("heads").className = now.rows ? "shown" : "";
    el("heads").replaceChildren(...(now.columns || []).map(([name, className]) => make("span", `cell ${className}`, name)));
    el("sort").disabled = view !== 0;
    el("fold").disabled = view !== 0;
    collect();
    choose(chosen, true);
    el("detail").replaceChildren();
  };

  // ---- what a person does ----------------------------------------------------------------------
  el("title").textContent = data.title;
  el("facts").textContent = data.facts.join(" · ");
  VIEWS.forEach((now, at) => {
    const judged = nodes.filter((node) => node.sort === "refused" || node.sort === "asked").length;
    const count = now.rows ? now.rows.length : now.flat ? judged : null;
    const tab = make("button");
    tab.append(make("span", now.short ? "long" : "", now.name));
    if (now.short) tab.append(make("span", "short", now.short));
    if (count !== null) tab.append(` ${number(count)}`);
    tab.type = "button";
    tab.setAttribute("role", "tab");
    tab.addEventListener("click", () => { show(at); list.focus(); });
    el("tabs").append(tab);
  });
  for (const [value, name] of SHOWN) {
    const option = make("option", "", name);
    option.value = value;
    el("sort").append(option);
  }
  el("sort").addEventListener("change", () => { chosen = 0; refresh(); });
  let waiting = 0;
  el("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { chosen = 0; list.scrollTop = 0; refresh(); }, 80);
  });
  el("fold").addEventListener("click", () => {
    const line = lines[chosen];
    if (closed.size > nodes.filter((node) => node.sort === "own").length) closed.clear(); else foldAll();
    el("fold").textContent = closed.size ? "Unfold all" : "Fold all";
    refresh(line);
  });
  el("fold").textContent = nodes.length > SMALL ? "Unfold all" : "Fold all";
  el("next").addEventListener("click", () => { next(); list.focus(); });
  list.addEventListener("scroll", redraw, { passive: true });
  addEventListener("resize", redraw);
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (!row) return;
    const line = lines[Number(row.dataset.at)];
    choose(Number(row.dataset.at));
    if (line.node) return;
    if (VIEWS[view].flat === undefined && !el("search").value.trim() && !el("sort").value) toggle(line);
  });
  list.addEventListener("dblclick", (event) => {
    const row = event.target.closest(".row");
    const line = row && lines[Number(row.dataset.at)];
    if (line && view !== 0) reveal(line.node || line);
  });
  const KEYS = {
    j: () => choose(chosen + 1), ArrowDown: () => choose(chosen + 1),
    k: () => choose(chosen - 1), ArrowUp: () => choose(chosen - 1),
    PageDown: () => choose(chosen + 20), PageUp: () => choose(chosen - 20),
    g: () => choose(0), Home: () => choose(0),
    G: () => choose(lines.length - 1), End: () => choose(lines.length - 1),
    n: next,
    Enter: () => { const line = lines[chosen]; if (view !== 0 && line) reveal(line.node || line); else toggle(line); },
    ArrowRight: () => { if (view === 0) toggle(lines[chosen], true); },
    ArrowLeft: () => {
      const line = lines[chosen];
      if (view !== 0 || !line) return;
      if (hasBelow(line) && !closed.has(line.index)) toggle(line, false);
      else if (line.parent >= 0) choose(lines.indexOf(nodes[line.parent]));
    },
    "/": () => el("search").focus(),
    Escape: () => { el("search").value = ""; el("sort").value = ""; refresh(lines[chosen]); },
    1: () => show(0), 2: () => show(1), 3: () => show(2), 4: () => show(3),
  };
  KEYS.l = KEYS.ArrowRight;
  KEYS.h = KEYS.ArrowLeft;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target === el("search");
    if (isTyping && event.key !== "Escape" && event.key !== "Enter") return;
    if (event.target.tagName === "SELECT" || (event.target.tagName === "BUTTON" && event.key === "Enter")) return;
    if (isTyping) { if (event.key === "Escape") KEYS.Escape(); list.focus(); event.preventDefault(); return; }
    const act = Object.hasOwn(KEYS, event.key) && KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  show(0);
  list.focus();
  // After the first drawing, which waits for the same frame.
  requestAnimationFrame(() => { document.documentElement.dataset.ready = Math.round(performance.now()); });
})();
