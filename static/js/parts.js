// Parts of a page that an event makes stale are fetched anew with the page itself and put in place; many events in a moment are one fetch.
import { times } from 'slipway/format'
import { on } from 'slipway/socket'

const GATHER_MS = 150
const REST_MS = 600
const RETRY_MS = 3000
let timer = null
let busy = false
let last = 0

export function refresh () { timer ??= setTimeout(update, Math.max(GATHER_MS, last + REST_MS - Date.now())) }

async function update () {
  timer = null
  if (busy) { refresh(); return }
  const parts = [...document.querySelectorAll('[data-part]')]
  if (!parts.length) return
  busy = true
  try {
    const source = part => part.dataset.part || location.href
    for (const url of new Set(parts.map(source))) await fetched(url, parts.filter(part => source(part) === url))
  } catch { setTimeout(refresh, RETRY_MS) // the console is away, which the connection's state says
  } finally { busy = false; last = Date.now() }
}

async function fetched (url, parts) {
  const answer = await fetch(url)
  if (!answer.ok || answer.redirected) return
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
  for (const part of parts) {
    const fresh = page.getElementById(part.id)
    if (fresh) put(part, fresh)
  }
}

// Figures that are live stay as they are, and the keyboard stays where it was.
function put (part, fresh) {
  times(fresh)
  for (const kept of part.querySelectorAll('[data-keep]')) fresh.querySelector(`[data-keep="${kept.dataset.keep}"]`)?.replaceWith(kept)
  const held = part.contains(document.activeElement) ? document.activeElement : null
  const open = [...part.querySelectorAll('details[open]')].map(one => one.dataset.name)
  part.replaceWith(fresh)
  for (const name of open) fresh.querySelector(`details[data-name="${name}"]`)?.setAttribute('open', '')
  if (held && !held.isConnected) (fresh.querySelector(`[data-focus="${held.dataset.focus}"]`) ?? fresh.querySelector('button, a'))?.focus()
  document.dispatchEvent(new CustomEvent('slipway-part', { detail: fresh }))
}

on('event', refresh)
on('gap', refresh)
// An open operation that missed its last event still comes to its end on screen, as does what tells of its end by no event.
const OPEN = ['[data-operation-state="running"]', '[data-operation-state="queued"]', '[data-waits]'].map(one => `[data-part] ${one}`).join()
setInterval(() => { if (!document.hidden && document.querySelector(OPEN)) refresh() }, 3000)
