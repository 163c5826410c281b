package learner

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// observed is what is known of one workload.
type observed struct {
	policy          string
	mode            policy.Mode
	firstNs, lastNs int64
	newNs           int64
	// lost decisions were counted without detail, or found no room.
	lost   uint64
	lostNs int64
	// starts are the containers seen, days the days since 1970.
	starts map[string]bool
	days   map[int64]bool
	// hosts are where it was seen.
	hosts map[string]bool
}

const (
	maxStarts = 64
	maxDays   = 400
	mostHosts = 256
	dayNs     = int64(24 * time.Hour)
)

func (e *evidence) workload(f *schemas.Flow) *observed {
	w := e.workloads[f.GetWorkload()]
	if w == nil {
		w = &observed{starts: map[string]bool{}, days: map[int64]bool{}, hosts: map[string]bool{}}
		e.workloads[f.GetWorkload()] = w
	}
	return w
}

func (w *observed) seen(f *schemas.Flow) {
	ns := f.GetTimeNs()
	if w.firstNs == 0 || ns < w.firstNs {
		w.firstNs = ns
	}
	if ns >= w.lastNs {
		w.lastNs, w.policy, w.mode = ns, f.GetPolicy(), policy.Mode(f.GetMode())
	}
	if id := f.GetContainerId(); id != "" && len(w.starts) < maxStarts {
		w.starts[id] = true
	}
	if len(w.hosts) < mostHosts {
		w.hosts[f.GetHost()] = true
	}
	if len(w.days) < maxDays {
		w.days[ns/dayNs] = true
	}
}

// What a workload must show before it is called ready.
const (
	ReadyDays   = 7
	ReadyStarts = 2
	ReadyQuiet  = 3 * 24 * time.Hour
)

// Readiness says whether a workload may leave learn mode, and why not.
type Readiness struct {
	Workload string   `json:"workload"`
	Policy   string   `json:"policy"`
	Mode     string   `json:"mode"`
	Ready    bool     `json:"ready"`
	Reasons  []string `json:"reasons"`
	// FirstSeen and LastSeen bound the traffic, LastNew is when a destination
	// was new for the last time.
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	LastNew   time.Time `json:"last_new"`
	// Days with traffic, and Starts: containers seen.
	Days   int `json:"days"`
	Starts int `json:"starts"`
	// Lost decisions are known by their number alone.
	Lost uint64 `json:"lost"`
	// Open destinations would be denied in block mode.
	Open int `json:"open"`
}

// Readiness tells of every workload seen, sorted by name.
func (l *Learner) Readiness(now time.Time) ([]Readiness, error) {
	open := map[string]int{}
	var out []Readiness
	for _, name := range slices.Sorted(maps.Keys(l.evidence.workloads)) {
		w := l.evidence.workloads[name]
		n, ok := open[w.policy]
		if !ok {
			undecided, err := l.undecided(w.policy, now)
			if err != nil {
				return nil, err
			}
			n = len(undecided)
			open[w.policy] = n
		}
		out = append(out, l.readiness(name, w, n, now))
	}
	return out, nil
}

func (l *Learner) readiness(name string, w *observed, open int, now time.Time) Readiness {
	r := Readiness{Workload: name, Policy: w.policy, Mode: w.mode.String(), FirstSeen: unix(w.firstNs), LastSeen: unix(w.lastNs),
		LastNew: unix(w.newNs), Days: len(w.days), Starts: len(w.starts), Lost: w.lost, Open: open}
	if o, ok := l.state.Mode(name); ok {
		r.Mode = o.Mode.String()
	}
	say := func(format string, args ...any) { r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...)) }
	if open > 0 {
		say("%d destinations are allowed by no rule", open)
	}
	if r.Days < ReadyDays {
		say("seen on %d days, want %d", r.Days, ReadyDays)
	}
	if r.Starts < ReadyStarts {
		say("%d start observed, want %d: what runs only at start may be missing", r.Starts, ReadyStarts)
	}
	if quiet := now.Sub(r.LastNew); w.newNs != 0 && quiet < ReadyQuiet {
		say("a destination was new %s ago, want %s without", quiet.Round(time.Minute), ReadyQuiet)
	}
	if w.lost > 0 && now.Sub(unix(w.lostNs)) < l.options.Window {
		say("%d decisions are known without their destination", w.lost)
	}
	r.Reasons = append(r.Reasons, l.lossesOf(w, now.Add(-l.options.Window).UnixNano())...)
	r.Ready = len(r.Reasons) == 0
	return r
}

func unix(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
