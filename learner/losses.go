package learner

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/egresswarden/egresswarden/schemas"
)

// loss is traffic that is not in the evidence.
type loss struct {
	Count  uint64
	LastNs int64
}

func (l loss) more(count uint64, ns int64) loss { return loss{l.Count + count, max(l.LastNs, ns)} }

type lossKey struct{ host, kind string }

// lossWords say what the kinds of host events mean that tell of a loss.
var lossWords = map[string]func(host string, n uint64) string{
	schemas.KindOutboxFull: func(host string, n uint64) string {
		return fmt.Sprintf("%d recorded decisions of host %s were thrown away, as the event log was full", n, host)
	},
	schemas.KindHostEventsDropped: func(host string, n uint64) string {
		return fmt.Sprintf("%d events of host %s were lost: they may have told of a loss", n, host)
	},
	schemas.KindGateDetached: func(host string, _ uint64) string {
		return fmt.Sprintf("the gate of host %s was taken off: nothing was recorded there", host)
	},
}

// Host takes a host event, of each host in its order; one that was taken before
// is left out. The snapshot has none of them: give all that there are.
func (l *Learner) Host(e *schemas.HostEvent) {
	if lossWords[e.GetKind()] == nil {
		return
	}
	k := lossKey{e.GetHost(), e.GetKind()}
	if old := l.told[k]; e.GetTimeNs() > old.LastNs {
		l.told[k] = old.more(e.GetCount(), e.GetTimeNs())
	}
}

// forgetLosses lets go of what is older than anybody asks for, so that it is not
// counted with what comes later.
func (l *Learner) forgetLosses(now time.Time) {
	before := now.Add(-max(l.options.Window, l.options.Unused)).UnixNano()
	maps.DeleteFunc(l.told, func(_ lossKey, n loss) bool { return n.LastNs < before })
}

// lossesOf tells what was lost since a time where a workload was seen.
func (l *Learner) lossesOf(w *observed, sinceNs int64) []string {
	var out []string
	for _, k := range slices.SortedFunc(maps.Keys(l.told), compareLoss) {
		if n := l.told[k]; w.on(k.host) && n.LastNs > sinceNs {
			out = append(out, lossWords[k.kind](k.host, n.Count))
		}
	}
	for _, host := range slices.Sorted(maps.Keys(l.evidence.unattributed)) {
		if n := l.evidence.unattributed[host]; w.on(host) && n.LastNs > sinceNs {
			out = append(out, fmt.Sprintf("%d decisions on host %s were of unknown containers, perhaps of this workload", n.Count, host))
		}
	}
	return out
}

func compareLoss(a, b lossKey) int {
	return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.kind, b.kind))
}

// on tells whether the workload may have been on a host; one of which too
// little is known may have been anywhere.
func (w *observed) on(host string) bool {
	return len(w.hosts) == 0 || len(w.hosts) >= mostHosts || w.hosts[host]
}
