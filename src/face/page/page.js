'use strict';
/*
 * The page of claude-bottle supervise. All that is shown goes through textContent: there is no text
 * here that becomes markup. What is decided is what was drawn: the hash of the request in `open`,
 * which is drawn in one go and replaced as a whole.
 */
(() => {
const SEEN_MS = 500;     // on the screen, before it can be approved
const WINDOW = 200;      // rows of an answer of /api/state
const REFRESH_MS = 400;  // at most one look in this time
const ANSWER_MAX = 511;   // bytes
const SILENCE_MS = 40000;
const KEY = 'claude-bottle-secret';
const RANK = {never: 'NEVER', warning: 'WARNING', note: 'note'};

const $ = (id) => document.getElementById(id);
const state = {
	now: 0, total: 0, windows: new Map(), version: -1, bottles: [], grants: [], recent: [],
	doings: null,        // the slug of the bottle whose doings are shown
	selected: null,      // {slug, id} of a row
	at: 0,               // where it was last
	isLive: false,
};
let open = null;         // the request that is shown: {request, always}
let shownSince = 0;      // when it could be seen in full; 0: not yet
let readEnd = false;

function make(tag, text, className) {
	const e = document.createElement(tag);
	if (text !== undefined)
		e.textContent = text;
	if (className)
		e.className = className;
	return e;
}

/* focus: its name among those of its list. */
function button(text, fn, key, focus) {
	const b = make('button', text);
	b.type = 'button';
	b.dataset.focus = focus || key || '';
	if (key) {
		b.append(make('kbd', key));
		b.setAttribute('aria-keyshortcuts', key);
	}
	b.addEventListener('click', fn);
	return b;
}

/* A list drawn anew if there is anything new in it, with the focus where it was. */
function replace(list, items) {
	const isSameAs = (item, i) => item.outerHTML === list.children[i].outerHTML;
	if (items.length === list.children.length && items.every(isSameAs))
		return;
	const active = document.activeElement;
	const at = list.contains(active) ? active.dataset.focus : undefined;
	list.replaceChildren(...items);
	const again = at && [...list.querySelectorAll('[data-focus]')].find((e) => e.dataset.focus === at);
	if (again)
		again.focus();
}

function say(text, kind) {
	$('said').textContent = text;
	$('said').className = kind || '';
}

/* --- the server --- */

class Refused extends Error {
	constructor(status, text) {
		super(text);
		this.status = status;
	}
}

async function request(path, body, more) {
	const headers = {'X-Claude-Bottle': sessionStorage.getItem(KEY) || ''};
	if (body !== undefined)
		headers['Content-Type'] = 'application/json';
	return fetch(path, {
		method: body === undefined ? 'GET' : 'POST', headers, mode: 'same-origin', redirect: 'error',
		cache: 'no-store', referrerPolicy: 'no-referrer',
		body: body === undefined ? undefined : JSON.stringify(body), ...more,
	});
}

async function ask(path, body) {
	const r = await request(path, body);
	let said = {};
	try {
		said = await r.json();
	} catch (e) {
		said = {};
	}
	if (r.ok)
		return said;
	if (r.status === 401)
		close(said.error);
	throw new Refused(r.status, said.error || `the server says ${r.status}`);
}

function close(why) {
	sessionStorage.removeItem(KEY);
	state.isLive = false;
	$('closed-why').textContent = `${why || 'This session is over'}. Press Enter in the terminal where ` +
		'"claude-bottle supervise --web" runs, and open the address that it shows.';
	$('closed').hidden = false;
	$('main').inert = true;
}

/* The fragment is sent to nobody; here it is taken out of the address, and used once. */
async function enter() {
	const token = location.hash.slice(1);
	if (token) {
		history.replaceState(null, '', '/');
		const said = await ask('/api/session', {token});
		sessionStorage.setItem(KEY, said.secret);
	}
	if (!sessionStorage.getItem(KEY)) {
		close('This page is not connected to a terminal');
		return false;
	}
	$('closed').hidden = true;
	$('main').inert = false;
	return true;
}

/* --- what is new --- */

let refreshAt = 0;
let refreshTimer = 0;

function refreshSoon() {
	if (refreshTimer)
		return;
	refreshTimer = setTimeout(() => {
		refreshTimer = 0;
		refreshAt = performance.now();
		refresh().catch((e) => say(e.message, 'bad'));
	}, Math.max(0, refreshAt + REFRESH_MS - performance.now()));
}

function setLive(isLive, text) {
	state.isLive = isLive;
	$('link').textContent = text;
	$('link').className = isLive ? '' : 'bad';
	drawReady();
}

async function listen() {
	let pause = 500;
	while (sessionStorage.getItem(KEY)) {
		const gone = new AbortController();
		let silence = setTimeout(() => gone.abort(), SILENCE_MS);
		let why = 'not connected';
		try {
			const r = await request('/api/events', undefined, {signal: gone.signal});
			if (r.status === 401)
				return close();
			if (!r.ok)
				throw new Refused(r.status, r.status === 503 ? 'too many windows look at this already' : 'refused');
			setLive(true, 'live');
			pause = 500;
			const reader = r.body.getReader();
			for (;;) {
				const {done} = await reader.read();
				if (done)
					break;
				clearTimeout(silence);
				silence = setTimeout(() => gone.abort(), SILENCE_MS);
				refreshSoon(); // the only thing that an event says
			}
		} catch (e) {
			if (e instanceof Refused)
				why = e.message;
		}
		clearTimeout(silence);
		setLive(false, `${why}: what is shown may be old`);
		await new Promise((done) => setTimeout(done, pause));
		pause = Math.min(pause * 2, 10000);
	}
}

async function refresh() {
	const first = await ask('/api/state');
	state.version = first.version;
	state.now = first.now - Date.now() / 1000;
	state.total = first.total;
	state.bottles = first.bottles;
	state.grants = first.grants || [];
	state.recent = first.recent || [];
	state.windows = new Map([[0, first.pending]]);
	$('trouble').textContent = first.trouble;
	$('trouble').hidden = !first.trouble;
	drawBottles();
	drawGrants();
	drawRecent();
	drawList();
	await drawDoings();
	if (open)
		await look(open.request.slug, open.request.id, true);
}

/* Rows that are not here yet are asked for once; a version later they are asked for again. */
const asking = new Set();

function rowAt(i) {
	const first = Math.floor(i / WINDOW) * WINDOW;
	const rows = state.windows.get(first);
	if (rows)
		return rows[i - first] || null;
	const name = `${state.version}/${first}`;
	if (!asking.has(name)) {
		asking.add(name);
		ask(`/api/state?after=${first}`).then((said) => {
			if (said.version === state.version) {
				state.windows.set(first, said.pending);
				drawList();
			} else {
				refreshSoon();
			}
		}).catch((e) => say(e.message, 'bad')).finally(() => asking.delete(name));
	}
	return null;
}

/* --- the list --- */

const ROW = 4.5 * parseFloat(getComputedStyle(document.documentElement).fontSize);
const drawn = new Map(); // index: element

function isSame(a, b) {
	return a && b && a.slug === b.slug && a.id === b.id;
}

function drawRow(i, row) {
	const e = drawn.get(i) || make('div', undefined, 'row');
	if (!drawn.has(i)) {
		e.id = `row-${i}`;
		e.setAttribute('role', 'option');
		e.style.top = `${i * ROW}px`;
		drawn.set(i, e);
		$('space').append(e);
	}
	e.setAttribute('aria-setsize', String(state.total));
	e.setAttribute('aria-posinset', String(i + 1));
	e.setAttribute('aria-selected', String(isSame(row, state.selected)));
	e.dataset.id = row ? `${row.slug}/${row.id}` : '';
	// What a mouse button is pressed on must still be there when it is released.
	replace(e, row ? partsOf(row) : []);
}

function partsOf(row) {
	const from = make('span', undefined, 'from');
	if (RANK[row.level])
		from.append(make('span', `${RANK[row.level]} `, `level ${row.level}`));
	from.append(`${row.slug} · ${row.kind} · ${span(nowSeconds() - row.created)} ago` +
		(row.asked > 1 ? ` · asked ${row.asked} times` : ''));
	return [make('span', endsOf(row.summary), 'what'), from];
}

/* Two lines hold no more: of a long one its end matters as much as its beginning. */
function endsOf(text) {
	const max = 2 * Math.floor($('space').clientWidth / (0.55 * ROW / 4.5)) - 8;
	return text.length <= max ? text : `${text.slice(0, Math.floor(max / 2))}…${text.slice(-Math.floor(max / 2))}`;
}

function drawList() {
	const list = $('list');
	const from = Math.max(0, Math.floor(list.scrollTop / ROW) - 5);
	const to = Math.min(state.total, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 5);
	$('waiting-title').textContent = `Waiting (${state.total})`;
	document.title = state.total ? `(${state.total}) claude-bottle` : 'claude-bottle';
	$('none').hidden = state.total > 0;
	list.hidden = state.total === 0;
	$('space').style.height = `${state.total * ROW}px`;
	for (const [i, e] of drawn) {
		if (i < from || i >= to) {
			e.remove();
			drawn.delete(i);
		}
	}
	for (let i = from; i < to; i++) {
		const row = rowAt(i);
		if (isSame(row, state.selected))
			state.at = i;
		drawRow(i, row);
	}
	if (drawn.has(state.at))
		list.setAttribute('aria-activedescendant', `row-${state.at}`);
	else
		list.removeAttribute('aria-activedescendant');
}

function select(i) {
	if (state.total === 0)
		return;
	i = Math.min(Math.max(i, 0), state.total - 1);
	const row = rowAt(i);
	state.at = i;
	state.selected = row ? {slug: row.slug, id: row.id} : null;
	const list = $('list');
	if (i * ROW < list.scrollTop)
		list.scrollTop = i * ROW;
	else if ((i + 1) * ROW > list.scrollTop + list.clientHeight)
		list.scrollTop = (i + 1) * ROW - list.clientHeight;
	drawList();
}

function move(by) {
	const row = rowAt(state.at);
	// One that was decided has left its place to the next.
	select(state.selected && isSame(row, state.selected) ? state.at + by : state.selected ? state.at : 0);
}

/* --- bottles, grants, what was decided --- */

function drawBottles() {
	replace($('bottles'), state.bottles.map((b) => {
		const li = make('li');
		const status = [b.slug, b.agent, b.alive ? (b.paused ? 'network paused' : b.state) : 'ended',
			`${b.pending} waiting`];
		li.append(make('span', status.filter(Boolean).join(' · '), 'text'));
		const looks = button('What it does', () => watch(b), '', `doings/${b.slug}`);
		looks.setAttribute('aria-expanded', String(state.doings === b.slug));
		li.append(looks);
		if (b.alive && b.supervised !== false)
			li.append(button(b.paused ? 'Give the network back' : 'Pause the network', () => pause(b), '', `pause/${b.slug}`));
		if (b.alive)
			li.append(button('Stop now', () => stop(b), '', `stop/${b.slug}`));
		return li;
	}));
}

function drawGrants() {
	$('grants-count').textContent = String(state.grants.length);
	replace($('grants'), state.grants.map((g) => {
		const li = make('li');
		const until = g.until ? `, ${span(g.until - nowSeconds())} left` : '';
		li.append(make('span', `${g.slug}: ${g.summary} (${g.scope}${until})`, 'text'));
		li.append(button('Revoke', () => act('/api/revoke', {slug: g.slug, id: g.id}), '', `${g.slug}/${g.id}`));
		return li;
	}));
}

function drawRecent() {
	$('recent-count').textContent = String(state.recent.length);
	replace($('recent'), state.recent.map((r) => {
		const li = make('li');
		li.append(make('span', `${r.state}: ${r.slug}: ${r.summary}`, 'text'));
		li.append(button('Show', () => show(r.slug, r.id), '', `${r.slug}/${r.id}`));
		return li;
	}));
}

/* Shown for one bottle at a time; asked for again, it goes away. */
async function watch(b) {
	state.doings = state.doings === b.slug ? null : b.slug;
	drawBottles();
	await drawDoings().catch((e) => say(e.message, 'bad'));
}

async function drawDoings() {
	const slug = state.doings;
	$('doings').hidden = !slug;
	if (!slug)
		return;
	const said = await ask(`/api/bottle/${encodeURIComponent(slug)}`);
	if (state.doings !== slug)
		return;
	const list = $('records');
	const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 4;
	$('doings-title').textContent = `What ${slug} does`;
	replace($('told'), (said.told.length ? said.told : ['(its agent has told nothing)']).map((l) => make('li', l)));
	replace(list, said.records.map((l) => make('li', l)));
	if (isAtEnd)
		list.scrollTop = list.scrollHeight;
}

function bottleOf() {
	const slug = open ? open.request.slug : state.selected ? state.selected.slug : null;
	return state.bottles.find((b) => b.slug === slug) || (state.bottles.length === 1 ? state.bottles[0] : null);
}

async function act(path, body) {
	try {
		const said = await ask(path, body);
		say(said.text || said.verdict, said.verdict === 'decided' ? 'good' : 'bad');
		return said.verdict;
	} catch (e) {
		say(e.message, 'bad');
		return 'failed';
	} finally {
		await refresh().catch(refreshSoon);
	}
}

/* Nothing is asked of who pauses: they are in a hurry, and nothing is lost by it. */
async function pause(b) {
	if (b.paused && await question({title: `Give ${b.slug} its network back?`, yes: 'Give it back'}) === null)
		return;
	await act('/api/pause', {slug: b.slug, paused: !b.paused});
}

async function stop(b) {
	if (await question({title: `Stop ${b.slug} now?`, lines: ['Its agent and its network end at once.'], yes: 'Stop it'}) !== null)
		await act('/api/stop', {slug: b.slug});
}

/* --- one request --- */

function nowSeconds() {
	return Date.now() / 1000 + state.now;
}

function span(seconds) {
	seconds = Math.max(0, seconds);
	for (const [unit, name] of [[86400, 'd'], [3600, 'h'], [60, 'min']]) {
		if (seconds >= unit)
			return `${Math.floor(seconds / unit)} ${name}`;
	}
	return `${Math.floor(seconds)} s`;
}

const FIELDS = [
	['host', 'host'], ['ports', 'ports'], ['methods', 'methods'], ['paths', 'paths'], ['remote', 'remote'],
	['ref', 'ref'], ['old', 'from'], ['new', 'to'], ['rule', 'rule'], ['where', 'where'], ['shown', 'text'],
	['words', 'words of the agent'], ['record', 'record'],
];

/* What the agent chose freely. */
const OF_AGENT = new Set(['shown', 'words']);

function fieldsOf(change) {
	const known = new Set(FIELDS.map(([key]) => key).concat('kind'));
	const names = FIELDS.filter(([key]) => key in change);
	for (const key of Object.keys(change)) {
		if (!known.has(key)) // what this page does not know is shown all the same
			names.push([key, key]);
	}
	return names.map(([key, name]) => [name, textOf(change[key], key === 'paths' ? '\n' : ', '), OF_AGENT.has(key)])
		.filter(([, text]) => text !== '');
}

function textOf(value, between) {
	if (Array.isArray(value))
		return value.map((v) => textOf(v, between)).join(between);
	return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
}

/* The same request shown again stays as long seen as it is; anything else begins anew. */
async function look(slug, id, isAgain) {
	const said = await ask(`/api/request/${encodeURIComponent(slug)}/${Number(id)}`);
	if (isAgain && (!open || !isSame(open.request, {slug, id})))
		return;
	const isKept = isAgain && JSON.stringify(said) === JSON.stringify(open);
	const hasChanged = isAgain && said.request.hash !== open.request.hash;
	open = said;
	if (isKept)
		return;
	if (!isAgain || hasChanged) {
		shownSince = 0;
		readEnd = false;
	}
	drawDetail();
	if (!readEnd)
		watchEnd();
	if (hasChanged)
		say('This request has changed: look again.', 'bad');
}

async function show(slug, id) {
	try {
		await look(slug, id, false);
	} catch (e) {
		say(e.message, 'bad');
		return;
	}
	$('detail').hidden = false;
	document.body.classList.add('reading');
	$('detail').scrollTop = 0;
	$('detail').focus();
	watchEnd();
}

function hide() {
	open = null;
	$('detail').hidden = true;
	document.body.classList.remove('reading');
	$('list').focus();
}

/* The findings with their levels; what this page does not know is the worst. */
function findings() {
	return open.request.findings.map((f) => ({
		rule: f.rule, text: f.text,
		level: ['note', 'warning'].includes(f.level) ? f.level : 'never',
	}));
}

/* [key, text, what the decision says] for each way in which this request can be granted. */
function waysOf(r) {
	switch (r.kind) {
	case 'egress':
		return [['o', 'Once', {scope: 'once'}], ['b', 'For this bottle', {scope: 'bottle'}],
			['t', 'For a time', {scope: 'bottle', minutes: 0}], ['a', 'Always', {scope: 'always'}]];
	case 'release':
		return [['p', 'Let it pass', {scope: 'once', release: 'pass'}],
			['m', 'Pass with the value masked', {scope: 'once', release: 'redact'}]];
	case 'push':
	case 'capability':
		return [['o', 'Once', {scope: 'once'}]];
	default:
		return [];
	}
}

function stateText(r) {
	if (r.state === 'pending')
		return `Waiting; a refusal in ${span(r.expires - nowSeconds())} unless somebody decides`;
	const by = r.who ? ` by ${r.who}` : '';
	const told = r.answer ? `; the agent was told: ${r.answer}` : '';
	return `${r.state}${r.scope ? ` (${r.scope})` : ''}${by}${told}`;
}

function drawDetail() {
	const r = open.request;
	$('detail-title').textContent = `Request ${r.id} of ${r.slug}: ${r.kind}`;
	$('detail').dataset.id = `${r.slug}/${r.id}`;
	$('detail-state').textContent = stateText(r);
	$('change').replaceChildren(...fieldsOf(r.change).flatMap(([name, text, isAgents]) => {
		const dd = make('dd', text, isAgents ? 'agent' : '');
		dd.dir = 'ltr';
		return [make('dt', name), dd];
	}));
	$('findings').replaceChildren(...findings().map((f) => {
		const li = make('li', undefined, f.level);
		li.append(make('span', `${RANK[f.level]} `, 'level'), make('span', `${f.rule}: ${f.text}`, 'text'));
		return li;
	}));
	$('findings-part').hidden = r.findings.length === 0;
	$('reason').textContent = r.reason || '(nothing)';
	$('detail-more').textContent = `Asked ${r.asked} time${r.asked === 1 ? '' : 's'}, first ` +
		`${span(nowSeconds() - r.created)} ago.`;
	$('hash').textContent = r.hash;
	drawActions(r);
}

function drawActions(r) {
	const list = [];
	if (r.state === 'pending' && !findings().some((f) => f.level === 'never')) {
		for (const [key, text] of waysOf(r)) {
			const b = button(text, () => grant(key), key);
			b.dataset.grants = key;
			list.push(b);
		}
	}
	if (r.state === 'pending')
		list.push(button('Refuse', refuse, 'r'));
	replace($('actions'), list);
	$('means').replaceChildren(...Object.entries(list.length > 1 ? open.means : {}).flatMap(([scope, text]) =>
		[make('dt', scope), make('dd', scope === 'always' && open.always && open.always.path ? `${text}: ${open.always.path}` : text)]));
	drawReady();
}

/* Why it cannot be approved now; empty when it can. */
function reasonNot(key) {
	const r = open.request;
	const forbids = findings().find((f) => f.level === 'never');
	if (forbids)
		return `It cannot be granted here; only the manifest, by hand, can. ${forbids.text}`;
	if (r.state !== 'pending')
		return `This request is ${r.state}.`;
	if (!state.isLive)
		return 'Not connected.';
	if (key === 'a' && (!open.always || open.always.error))
		return `Always: ${open.always ? open.always.error : "this bottle's manifest is not known"}`;
	if (!readEnd)
		return 'Read on first: the end of what would be different has not been on the screen.';
	if (!shownSince || performance.now() - shownSince < SEEN_MS)
		return 'Too fast: this has only just come on the screen.';
	return '';
}

function drawReady() {
	if (!open)
		return;
	let why = open.request.state === 'pending' ? reasonNot('') : '';
	for (const b of $('actions').querySelectorAll('[data-grants]'))
		b.disabled = reasonNot(b.dataset.grants) !== '';
	if (!why && waysOf(open.request).some(([key]) => key === 'a') && open.request.state === 'pending')
		why = reasonNot('a');
	$('why-not').textContent = why;
}

/* Seen means: the end of change and findings was within the window, which was in front, and from
 * then on for SEEN_MS. Whatever covers the window, or takes the focus, begins it anew. */
const endWatch = new IntersectionObserver((entries) => {
	if (entries.some((e) => e.isIntersecting)) {
		readEnd = true;
		if (!shownSince)
			seenFromNow();
	}
}, {threshold: 0});

function watchEnd() {
	endWatch.disconnect();
	endWatch.observe($('read-end'));
}

function seenFromNow() {
	shownSince = document.visibilityState === 'visible' && document.hasFocus() && readEnd ? performance.now() : 0;
	drawReady();
	setTimeout(drawReady, SEEN_MS + 20);
}

function seenNoMore() {
	shownSince = 0;
	drawReady();
}

async function grant(key) {
	const why = reasonNot(key);
	if (why)
		return say(why, 'bad');
	const way = waysOf(open.request).find(([k]) => k === key);
	if (!way)
		return say('This kind of request cannot be approved that way.', 'bad');
	// All of the decision is fixed before anything more is asked.
	const r = open.request;
	const decision = {slug: r.slug, id: r.id, hash: r.hash, granted: true, ...way[2]};
	const warnings = findings().filter((f) => f.level === 'warning').map((f) => `${f.rule}: ${f.text}`);
	if (key === 't') {
		const minutes = await question({title: 'For how many minutes?', prompt: 'Minutes', yes: 'Approve', value: '30'});
		if (minutes === null)
			return;
		if (!/^[1-9][0-9]{0,4}$/.test(minutes) || Number(minutes) > 43200)
			return say('Minutes from 1 to 43200. Nothing was sent.', 'bad');
		decision.minutes = Number(minutes);
	}
	if (r.kind === 'capability') {
		const words = await question({title: 'What the agent is told', prompt: 'Answer', yes: 'Approve'});
		if (words === null)
			return;
		decision.answer = words;
	}
	if (key === 'a') {
		decision.manifest = open.always.hash;
		if (await question({title: `This would be written into ${open.always.path}`, text: open.always.diff,
			lines: warnings, yes: 'Approve and write it', isGuarded: true}) === null)
			return;
	} else if (warnings.length > 0) {
		if (await question({title: 'Approve all the same?', lines: warnings, yes: 'Approve all the same', isGuarded: true}) === null)
			return;
	}
	await decide(decision);
}

async function refuse() {
	if (!open || open.request.state !== 'pending')
		return;
	const r = open.request;
	const answer = await question({title: `Refuse request ${r.id} of ${r.slug}`, prompt: 'Why not? (for the agent)', yes: 'Refuse'});
	if (answer !== null)
		await decide({slug: r.slug, id: r.id, hash: r.hash, granted: false, answer});
}

async function decide(decision) {
	if (decision.answer && new TextEncoder().encode(decision.answer).length > ANSWER_MAX)
		return say('That is too long for an answer. Nothing was sent.', 'bad');
	const verdict = await act('/api/decide', decision);
	if (verdict === 'decided' && open && isSame(open.request, decision)) {
		hide();
		select(state.at); // the next, which has taken its place
	}
}

/* --- questions --- */

/* What was typed, "" for a plain yes, null for no. The answer no is where the focus is; a guarded yes
 * counts only once its text has been on the screen. */
function question({title, lines, text, prompt, value, yes, isGuarded}) {
	const dialog = $('ask');
	if (dialog.open)
		return Promise.resolve(null);
	$('ask-title').textContent = title;
	$('ask-lines').replaceChildren(...(lines || []).map((l) => make('li', l, 'warning')));
	$('ask-text').textContent = text || '';
	$('ask-text').hidden = !text;
	$('ask-label').hidden = !prompt;
	$('ask-prompt').textContent = prompt || '';
	$('ask-input').value = value || '';
	$('ask-input').maxLength = 400;
	$('ask-yes').textContent = yes;
	$('ask-yes').disabled = Boolean(isGuarded);
	return new Promise((done) => {
		const stops = new AbortController();
		const on = (e, name, fn) => e.addEventListener(name, fn, {signal: stops.signal});
		const ready = () => {
			const pre = $('ask-text');
			if (pre.hidden || pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 2)
				$('ask-yes').disabled = false;
		};
		const finish = (answer) => {
			stops.abort();
			clearTimeout(timer);
			dialog.close();
			if (answer === null)
				say('Nothing was sent.');
			done(answer);
		};
		const timer = setTimeout(() => {
			if (!isGuarded)
				return;
			ready();
			on($('ask-text'), 'scroll', ready);
		}, SEEN_MS);
		const accept = () => {
			if (!$('ask-yes').disabled)
				finish(prompt ? $('ask-input').value : '');
		};
		on($('ask-yes'), 'click', accept);
		on($('ask-no'), 'click', () => finish(null));
		on(dialog, 'cancel', (e) => {
			e.preventDefault();
			finish(null);
		});
		on(dialog, 'keydown', (e) => {
			if (e.isComposing || e.repeat)
				return;
			if (prompt && e.key === 'Enter' && e.target === $('ask-input')) {
				e.preventDefault();
				accept();
			} else if (!prompt && e.key === 'y') {
				accept();
			} else if (!prompt && e.key === 'n') {
				finish(null);
			}
		});
		dialog.showModal();
		(prompt ? $('ask-input') : $('ask-no')).focus();
	});
}

/* --- keys --- */

function openSelected() {
	const row = rowAt(state.at);
	if (row && isSame(row, state.selected))
		show(row.slug, row.id);
}

function withBottle(fn) {
	const b = bottleOf();
	if (b && b.alive)
		fn(b);
	else
		say('Choose a request of the bottle first.', 'bad');
}

const KEYS = {
	'j': () => open || move(1), 'ArrowDown': () => open || move(1),
	'k': () => open || move(-1), 'ArrowUp': () => open || move(-1),
	'Home': () => open || select(0), 'End': () => open || select(state.total - 1),
	'PageDown': () => open || select(state.at + 10), 'PageUp': () => open || select(state.at - 10),
	'Enter': () => open || openSelected(),
	'q': hide, 'Escape': hide,
	'h': () => { $('decided').open = !$('decided').open; },
	'v': () => withBottle(watch), 'P': () => withBottle(pause), 'K': () => withBottle(stop),
	'?': () => $('help').showModal(),
};
const DECIDES = {'r': refuse, 'x': refuse};
for (const key of 'obtapm')
	DECIDES[key] = () => grant(key);

document.addEventListener('keydown', (e) => {
	const t = e.target;
	if (e.defaultPrevented || e.ctrlKey || e.altKey || e.metaKey || e.isComposing || document.querySelector('dialog[open]'))
		return;
	if (t.tagName === 'INPUT' || ((e.key === 'Enter') && (t.tagName === 'BUTTON' || t.tagName === 'SUMMARY')))
		return;
	const decides = open && DECIDES[e.key];
	const scrolls = open && !KEYS[e.key];
	if (decides) {
		e.preventDefault();
		if (!e.repeat) // a key that is held down decides nothing
			decides();
	} else if (KEYS[e.key] && !(open && /^(Arrow|Page|Home|End)/.test(e.key)) && !scrolls) {
		e.preventDefault();
		KEYS[e.key]();
	}
});

$('list').addEventListener('scroll', drawList, {passive: true});
$('list').addEventListener('click', (e) => {
	const row = e.target.closest('.row');
	if (!row || !row.dataset.id)
		return;
	const [slug, id] = row.dataset.id.split('/');
	state.selected = {slug, id: Number(id)};
	drawList();
	show(slug, Number(id));
});
$('back').addEventListener('click', hide);
$('help-button').addEventListener('click', () => $('help').showModal());
$('help-close').addEventListener('click', () => $('help').close());
document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' ? seenFromNow() : seenNoMore());
window.addEventListener('focus', seenFromNow);
window.addEventListener('blur', seenNoMore);
window.addEventListener('resize', drawList);
setInterval(() => {
	if (open)
		$('detail-state').textContent = stateText(open.request);
	drawList();
}, 10000);

async function start() {
	try {
		if (await enter()) {
			await refresh();
			listen();
		}
	} catch (e) {
		if (e.status !== 401)
			close(e.message);
	}
}
window.addEventListener('hashchange', () => location.hash.length > 1 && location.reload());
start();
})();
