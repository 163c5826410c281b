package learner

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/egresswarden/egresswarden/policy"
)

// snapshotFormat changes when an older reader would misread a snapshot.
const snapshotFormat = 1

type snapshot struct {
	Format    int
	Covered   uint64
	Made      int64
	Names     []string
	Hosts     []string
	Positions []position
	// Unattributed has a loss for each of UnattributedHosts.
	UnattributedHosts []string
	Unattributed      []loss
	Policies          []dossierSnapshot
	Workloads         []workloadSnapshot
}

type dossierSnapshot struct {
	Name                   string
	FirstNs, LastNs, NewNs int64
	Beyond                 uint64
	Rules                  []uint32
	UsedNs                 []int64
	Dests                  []destSnapshot
}

type destSnapshot struct {
	Addr                      netip.Addr
	Proto                     uint8
	Port                      uint16
	Count, Denied             uint64
	FirstNs, LastNs, DeniedNs int64
	Comms                     [maxComms]uint16
	Hosts                     [maxHosts]uint16
	Blocked                   uint32
}

type workloadSnapshot struct {
	Name, Policy           string
	Mode                   policy.Mode
	FirstNs, LastNs, NewNs int64
	Lost                   uint64
	LostNs                 int64
	Starts                 []string
	Days                   []int64
	Hosts                  []string
}

// Encode writes the evidence and the sequence that it covers; equal evidence
// gives equal bytes. The policy log is not in it: it is folded again.
func (l *Learner) Encode() ([]byte, error) {
	e := l.evidence
	out := snapshot{Format: snapshotFormat, Covered: l.covered, Made: l.made, Names: e.names.list}
	for _, h := range slices.Sorted(maps.Keys(e.heard)) {
		out.Hosts, out.Positions = append(out.Hosts, h), append(out.Positions, e.heard[h])
	}
	for _, h := range slices.Sorted(maps.Keys(e.unattributed)) {
		out.UnattributedHosts, out.Unattributed = append(out.UnattributedHosts, h), append(out.Unattributed, e.unattributed[h])
	}
	for _, name := range slices.Sorted(maps.Keys(e.policies)) {
		out.Policies = append(out.Policies, e.policies[name].snapshot(name))
	}
	for _, name := range slices.Sorted(maps.Keys(e.workloads)) {
		w := e.workloads[name]
		out.Workloads = append(out.Workloads, workloadSnapshot{name, w.policy, w.mode, w.firstNs, w.lastNs, w.newNs, w.lost,
			w.lostNs, slices.Sorted(maps.Keys(w.starts)), slices.Sorted(maps.Keys(w.days)),
			slices.Sorted(maps.Keys(w.hosts))})
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(out); err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	return b.Bytes(), nil
}

func (d *dossier) snapshot(name string) dossierSnapshot {
	out := dossierSnapshot{Name: name, FirstNs: d.firstNs, LastNs: d.lastNs, NewNs: d.newNs, Beyond: d.beyond}
	for _, n := range slices.Sorted(maps.Keys(d.used)) {
		out.Rules, out.UsedNs = append(out.Rules, n), append(out.UsedNs, d.used[n])
	}
	for _, to := range slices.SortedFunc(maps.Keys(d.dests), compareDest) {
		s := d.dests[to]
		out.Dests = append(out.Dests, destSnapshot{to.addr, uint8(to.proto), to.port, s.count, s.denied, s.firstNs, s.lastNs,
			s.deniedNs, s.comms, s.hosts, s.blocked})
	}
	return out
}

// Decode makes a learner from what Encode wrote. It has yet to be given the
// policy log, and the flows after Covered.
func Decode(o Options, data []byte) (*Learner, error) {
	var in snapshot
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&in); err != nil {
		return nil, fmt.Errorf("decode evidence: %w", err)
	}
	if in.Format != snapshotFormat || len(in.Hosts) != len(in.Positions) || len(in.UnattributedHosts) != len(in.Unattributed) {
		return nil, fmt.Errorf("decode evidence: format %d, want %d", in.Format, snapshotFormat)
	}
	l := New(o)
	l.covered, l.made = in.Covered, in.Made
	e := l.evidence
	for i, name := range in.Names {
		if i >= 2 {
			e.names.list = append(e.names.list, name)
			e.names.known[name] = uint16(i)
		}
	}
	for i, h := range in.Hosts {
		e.heard[h] = in.Positions[i]
	}
	for i, h := range in.UnattributedHosts {
		e.unattributed[h] = in.Unattributed[i]
	}
	for _, p := range in.Policies {
		if err := l.decodeDossier(p); err != nil {
			return nil, fmt.Errorf("decode evidence: policy %s: %w", p.Name, err)
		}
	}
	for _, w := range in.Workloads {
		o := &observed{policy: w.Policy, mode: w.Mode, firstNs: w.FirstNs, lastNs: w.LastNs, newNs: w.NewNs, lost: w.Lost,
			lostNs: w.LostNs, starts: map[string]bool{}, days: map[int64]bool{}, hosts: map[string]bool{}}
		for _, s := range w.Starts {
			o.starts[s] = true
		}
		for _, d := range w.Days {
			o.days[d] = true
		}
		for _, h := range w.Hosts {
			o.hosts[h] = true
		}
		if w.Policy != "" { // a former build counted the unattributed as a workload
			e.workloads[w.Name] = o
		}
	}
	return l, nil
}

func (l *Learner) decodeDossier(in dossierSnapshot) error {
	d := newDossier()
	d.firstNs, d.lastNs, d.newNs, d.beyond, d.dirty = in.FirstNs, in.LastNs, in.NewNs, in.Beyond, true
	if len(in.Rules) != len(in.UsedNs) {
		return fmt.Errorf("%d rules with %d uses", len(in.Rules), len(in.UsedNs))
	}
	for i, n := range in.Rules {
		d.used[n] = in.UsedNs[i]
	}
	known := uint16(len(l.evidence.names.list))
	for _, s := range in.Dests {
		for _, n := range append(s.Comms[:], s.Hosts[:]...) {
			if n >= known {
				return fmt.Errorf("destination %s: name %d is unknown", s.Addr, n)
			}
		}
		d.dests[dest{s.Addr, policy.Proto(s.Proto), s.Port}] = &sightings{s.Count, s.Denied, s.FirstNs, s.LastNs, s.DeniedNs,
			s.Comms, s.Hosts, s.Blocked}
	}
	l.evidence.policies[in.Name] = d
	l.evidence.total += len(d.dests)
	return nil
}
