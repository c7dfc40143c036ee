// The list of containers: the rows that an event names are fetched, and nothing else; the search and the scroll bring the rest.
import htmx from 'htmx'
import { times } from 'slipway/format'
import { on } from 'slipway/socket'

const GATHER_MS = 150
const MOST = 100

export function start (listing) {
  const url = listing.dataset.liveList
  const stale = new Set()
  let timer = null
  let busy = false
  const body = () => document.getElementById('container-rows')
  const row = id => document.getElementById(`row-${id}`)
  const query = () => new URLSearchParams({ search: document.getElementById('list-search').value, state: document.getElementById('list-state').value })
  const changed = () => document.dispatchEvent(new Event('slipway-rows'))

  function whole () {
    stale.clear()
    const params = query()
    params.set('count', listing.querySelectorAll('[data-row]').length)
    htmx.ajax('GET', `${url}?${params}`, { target: listing, swap: 'innerHTML' })
  }

  function mark (id) {
    if (!id) return
    stale.add(id)
    timer ??= setTimeout(update, GATHER_MS)
  }

  async function update () {
    timer = null
    if (busy) { timer = setTimeout(update, GATHER_MS); return }
    if (!body() || stale.size > MOST) { whole(); return }
    busy = true
    try { await replace([...stale]) } finally { busy = false }
  }

  async function replace (ids) {
    stale.clear()
    const params = query()
    for (const id of ids) params.append('id', id)
    const answer = await fetch(`${url}?${params}`, { headers: { 'HX-Request': 'true' } })
    if (!answer.ok) return
    const template = document.createElement('template')
    template.innerHTML = await answer.text()
    const fresh = new Map([...template.content.querySelectorAll('[data-row]')].map(one => [one.dataset.row, one]))
    for (const id of ids) put(row(id), fresh.get(id))
    if (!body()?.querySelector('[data-row]')) whole()
    changed()
  }

  // A row of the page in place of its old self, with its figures; a new one where its age belongs.
  function put (old, now) {
    if (!now) { old?.remove(); return }
    times(now)
    if (!old) { insert(now); return }
    const figures = old.querySelectorAll('.live')
    if (now.dataset.state === 'running') now.querySelectorAll('.live').forEach((cell, index) => cell.replaceWith(figures[index]))
    const held = old.contains(document.activeElement)
    old.replaceWith(now)
    if (held) now.querySelector('.row-actions button, a')?.focus()
  }

  function insert (now) {
    const older = [...body().querySelectorAll('[data-row]')].find(one => Number(one.dataset.created) < Number(now.dataset.created))
    if (older) older.before(now)
    else if (!body().querySelector('[data-more]')) body().append(now)
  }

  on('event', ({ event }) => {
    if (event.kind === 'container') mark(event.id)
    if (event.kind === 'operation' && event.state !== 'running') mark(event.container)
  })
  on('gap', whole)
  document.addEventListener('slipway-acted', ({ detail }) => mark(detail))
}
