// The colours of a log line, as spans.  Never as HTML: what a container writes is text.
// eslint-disable-next-line no-control-regex
const CODE = /\u001b\[([0-9;]*)([A-Za-z])/g
const KNOWN = new Set(['1', ...[31, 32, 33, 34, 35, 36, 90, 91, 92, 93, 94, 95, 96].map(String)])

export function spans (text) {
  const parts = document.createDocumentFragment()
  let at = 0
  let classes = []
  const put = piece => {
    if (!piece) return
    const span = document.createElement('span')
    if (classes.length) span.className = classes.map(code => `ansi-${code}`).join(' ')
    span.textContent = piece
    parts.append(span)
  }
  for (const match of text.matchAll(CODE)) {
    put(text.slice(at, match.index))
    at = match.index + match[0].length
    if (match[2] !== 'm') continue
    for (const code of (match[1] || '0').split(';')) {
      if (code === '0' || code === '') classes = []
      else if (KNOWN.has(code)) classes = [...classes.filter(known => known === '1'), code]
    }
  }
  put(text.slice(at))
  return parts
}

export const plain = text => text.replaceAll(CODE, '')
