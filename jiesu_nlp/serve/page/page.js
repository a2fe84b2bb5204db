"use strict";

const $ = (id) => document.getElementById(id);
const KINDS = {
  repeated: "反映过不止一次", unanswered: "答复未办", long_standing: "持续很久", periodic: "反复、周期",
  collective: "很多人受影响", ageing: "老化破损",
};
const PROBLEMS = {
  401: "需要访问密钥", 413: "内容太长", 422: "内容不能识别", 429: "服务忙,请稍后再试", 503: "服务暂不可用", 504: "处理超时",
};
const ERRORS = { EmptyTextError: "正文是空的", NoChineseError: "正文里没有中文", TextTooLongError: "正文太长" };
const HEADS = ["category", "department", "intent"];
const FAILED = {
  TableError: "读不出来,或者认不出正文列;请看表头", InterruptedError: "服务中断了,请再传一次",
};
let asked = null;
let said = {};

function show(id, text) {
  $(id).textContent = text || "";
  $(id).hidden = !text;
}

async function call(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("连不上服务,请检查网络");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    $("key-form").hidden = false;
    $("key").focus();
  }
  const told = await response.json().catch(() => ({}));
  throw new Error(ERRORS[told.title] || PROBLEMS[response.status] || `出错(${response.status})`);
}

const post = (path, body) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

function percent(p) {
  if (p > 0.999) return ">99.9%";
  return p < 0.001 ? "<0.1%" : `${(100 * p).toFixed(1)}%`;
}

function bars(id, labels) {
  $(id).replaceChildren(...labels.map((label) => {
    const item = document.createElement("li");
    const [name, share, bar] = ["span", "span", "i"].map((tag) => item.appendChild(document.createElement(tag)));
    name.textContent = label.name;
    share.textContent = percent(label.probability);
    bar.style.width = `${100 * label.probability}%`;
    return item;
  }));
}

/* Offsets of the answer count characters; JavaScript's strings count UTF-16 units. */
function mark(text, answer) {
  const chars = Array.from(text);
  const kinds = chars.map(() => new Set());
  const folded = chars.map((c) => c.toLowerCase());
  for (const { word, weight } of answer.explanation) {
    const letters = Array.from(word);
    if (weight <= 0 || word === "0") continue;
    for (let i = 0; i + letters.length <= folded.length; i++) {
      if (letters.every((c, k) => folded[i + k] === c)) letters.forEach((_, k) => kinds[i + k].add("word"));
    }
  }
  for (const { start, end } of answer.recurrence.evidence) {
    for (let i = start ?? 0; i < (end ?? 0); i++) kinds[i].add("cue");
  }
  const parts = [];
  for (let i = 0, from = 0; i < chars.length; i++) {
    const [here, next] = [kinds[i], kinds[i + 1]].map((set) => [...(set || [])].sort().join(" "));
    if (i + 1 < chars.length && here === next) continue;
    const piece = chars.slice(from, i + 1).join("");
    const element = here ? document.createElement("mark") : null;
    if (element) {
      element.className = here;
      element.textContent = piece;
    }
    parts.push(element || piece);
    from = i + 1;
  }
  $("marked").replaceChildren(...parts);
}

function evidence(recurrence) {
  $("score").textContent = percent(recurrence.score);
  $("known").textContent = `本可先办;主管单位本可知道 ${percent(recurrence.score_known)}`;
  $("evidence").replaceChildren(...recurrence.evidence.map((e) => {
    const item = document.createElement("li");
    item.textContent = e.ticket
      ? `往期工单 ${e.ticket},${e.time.slice(0, 10)},相似 ${e.similarity.toFixed(2)}`
      : `“${e.text}”:${KINDS[e.kind] || e.kind}(${e.basis})`;
    return item;
  }));
  const seen = recurrence.count
    ? `一年内同一事项 ${recurrence.count} 件(月次 ${recurrence.month_count},年次 ${recurrence.year_count})` +
      (recurrence.came_back ? ",答复后又来" : "")
    : "没有同一事项的往期工单";
  $("history").textContent = recurrence.is_prior ? "没有接入历史,只凭文字判断" : seen;
}

function render(text, answer) {
  $("answer").hidden = false;
  show("review", answer.needs_review ? `建议人工复核:${answer.review_reasons.join(";")}` : "");
  const urgent = answer.handling.code === "emergency";
  show("emergency", urgent ? `紧急情况,请立即转 ${answer.handling.line}` : "");
  bars("categories", answer.categories);
  bars("departments", answer.departments);
  bars("intents", answer.intents);
  $("assisting").textContent = answer.assisting.length ? `协办:${answer.assisting.map((d) => d.name).join("、")}` : "";
  $("handling").textContent = answer.handling.line ? `转 ${answer.handling.line}` : answer.handling.name;
  $("basis").textContent = answer.handling.basis;
  evidence(answer.recurrence);
  mark(text, answer);
  $("model").textContent = `模型 ${answer.model.name} ${answer.model.version},体系 ${answer.model.taxonomy_version}`;
  said = Object.fromEntries(HEADS.map((head) => [head, answer[head].code]));
  for (const head of HEADS) $(`right-${head}`).value = said[head];
  $("thanks").textContent = "";
}

let names = null;
async function loadNames() {
  if (names) return;
  names = (await (await call("/v1/taxonomy")).json()).heads;
  for (const head of HEADS) {
    $(`right-${head}`).replaceChildren(...names[head].map((label) => new Option(label.name, label.code)));
  }
}

async function guarded(form, work) {
  const button = form.querySelector("button");
  if (button.disabled) return;
  show("error", "");
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    show("error", error.message);
  } finally {
    button.disabled = false;
  }
}

function submit(id, work) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    guarded($(id), work);
  });
}

submit("ask", async () => {
  $("answer").hidden = true;
  const text = $("text").value;
  const place = $("place").value.trim() || null;
  await loadNames();
  const answer = await (await post("/v1/classify", { text, place })).json();
  asked = { id: `page-${crypto.randomUUID?.() ?? Date.now()}`, text };
  render(text, answer);
});

submit("correction", async () => {
  // Only what was changed: the rest is the model's guess, and nobody's label.
  const changed = HEADS.filter((head) => $(`right-${head}`).value !== said[head]);
  if (!changed.length) throw new Error("没有改动;改了哪一项,就记哪一项");
  await post("/v1/feedback", { ...asked, ...Object.fromEntries(changed.map((head) => [head, $(`right-${head}`).value])) });
  $("thanks").textContent = "已记下,谢谢。更正会用于以后的训练。";
});

submit("key-form", async () => {
  if (!/^[\x21-\x7e]+$/.test($("key").value)) throw new Error("密钥只含半角的字母、数字和符号,请重新输入");
  sessionStorage.setItem("key", $("key").value);
  $("key-form").hidden = true;
  await loadNames();
});

submit("send", async () => {
  const file = $("file").files[0];
  $("job").hidden = false;
  $("download").hidden = $("rejects").hidden = true;
  $("bar").removeAttribute("value");
  $("state").textContent = "上传中……";
  let job;
  try {
    job = await (await call(`/v1/files?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file })).json();
  } catch (error) {
    $("job").hidden = true;
    throw error;
  }
  while (job.state === "waiting" || job.state === "working") {
    $("state").textContent = job.state === "waiting" ? "排队中……" : `已贴标签 ${job.rows} 件……`;
    await new Promise((wake) => setTimeout(wake, 400));
    job = await (await call(`/v1/files/${job.id}`)).json();
  }
  $("job").hidden = job.state === "failed";
  if (job.state === "failed") throw new Error(`这张表不能处理:${FAILED[job.message] || job.message}`);
  $("bar").value = 1;
  $("state").textContent = `完成:${job.rows} 件已贴标签,${job.rejected} 行不能识别`;
  $("rejects").hidden = !job.rejected;
  $("rejects").onclick = () => guarded($("rejects").parentElement, () => save(`/v1/files/${job.id}/rejects`, "不能识别的行.csv"));
  $("download").hidden = false;
  const name = file.name.replace(/(\.\w+)$/, "-贴标签$1");
  $("download").onclick = () => guarded($("download").parentElement, () => save(`/v1/files/${job.id}/result`, name));
});

async function save(path, name) {
  const response = await call(path);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});

const tabs = [$("tab-one"), $("tab-table")];
function choose(tab) {
  for (const other of tabs) {
    other.setAttribute("aria-selected", other === tab);
    other.tabIndex = other === tab ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = other !== tab;
  }
  show("error", "");
  tab.focus();
}
tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") choose(tabs[1 - i]);
  });
});
