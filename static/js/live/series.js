// The last 15 minutes of a container, column by column; what was not measured is a gap, not a line across it.
export const SPAN_S = 900
// Unwatched containers are sampled every ten seconds: longer than two of those without a sample is a gap.
export const GAP_S = 21
// Places in a row of figures, as the agent writes them.
const ROW = { cpu: 0, memory: 1, working_set: 2, rx: 3, tx: 4, read: 5, write: 6, pids: 7 }
const NAMES = Object.keys(ROW)

export class Series {
  constructor () { this.clear() }

  clear () { this.t = []; for (const name of NAMES) this[name] = [] }

  // Columns by name with t in milliseconds, oldest first.  What came live since is kept when the history is older.
  load (samples) {
    this.clear()
    const times = samples.t ?? []
    times.forEach((ms, index) => this.push(ms / 1000, NAMES.map(name => samples[name]?.[index] ?? null)))
  }

  // False: not newer than what is here.
  push (at, row) {
    const last = this.t.at(-1)
    if (at <= last) return false
    if (last !== undefined && at - last > GAP_S) this.put(last + 1, NAMES.map(() => null))
    this.put(at, row)
    while (this.t[0] < at - SPAN_S) for (const name of ['t', ...NAMES]) this[name].shift()
    return true
  }

  put (at, row) {
    this.t.push(at)
    NAMES.forEach(name => this[name].push(row[ROW[name]] ?? null))
  }

  get empty () { return this.t.length === 0 }
}
