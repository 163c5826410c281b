package learner

import (
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// evidence is what flows showed, per policy and workload.
type evidence struct {
	limits    Limits
	policies  map[string]*dossier
	workloads map[string]*observed
	names     *names
	total     int
	// unattributed are decisions of each host that nobody knows the workload of.
	unattributed map[string]loss
	// heard has the last event of each host, so that an event that the stream
	// has twice is counted once.
	heard map[string]position
}

type position struct {
	Boot string
	At   uint64
}

// dossier is the evidence of one policy.
type dossier struct {
	dests map[dest]*sightings
	// used has the last use of each rule, by number.
	used                   map[uint32]int64
	firstNs, lastNs, newNs int64
	// beyond counts the decisions that found no room.
	beyond uint64
	dirty  bool
}

type dest struct {
	addr  netip.Addr
	proto policy.Proto
	port  uint16
}

const (
	maxComms = 6
	maxHosts = 4
)

// sightings is what is known of a destination. Names are indexes; 0 is none.
type sightings struct {
	count, denied   uint64
	firstNs, lastNs int64
	deniedNs        int64
	comms           [maxComms]uint16
	hosts           [maxHosts]uint16
	// blocked are those of denied that were refused in fact, at most 2^32-1: one
	// more would cost a quarter of the memory.
	blocked uint32
}

func newEvidence(l Limits) *evidence {
	return &evidence{limits: l, policies: map[string]*dossier{}, workloads: map[string]*observed{},
		names: newNames(l.Names), unattributed: map[string]loss{}, heard: map[string]position{}}
}

func newDossier() *dossier {
	return &dossier{dests: map[dest]*sightings{}, used: map[uint32]int64{}}
}

// add takes a flow. It keeps nothing of it but strings.
func (e *evidence) add(f *schemas.Flow) {
	if e.repeated(f) {
		return
	}
	if f.GetReason() == schemas.ReasonDoctor {
		return
	}
	if f.GetPolicy() == "" {
		e.unattributed[f.GetHost()] = e.unattributed[f.GetHost()].more(f.GetCount(), f.GetTimeNs())
		return
	}
	w := e.workload(f)
	w.seen(f)
	if f.GetAttempt() != "" {
		return // nothing that a rule could allow
	}
	dst, ok := netip.AddrFromSlice(f.GetDstIp())
	if !ok || f.GetReason() == schemas.ReasonOverflow {
		w.lost += f.GetCount()
		w.lostNs = max(w.lostNs, f.GetTimeNs())
		return
	}
	if n := f.GetRule(); f.GetReason() != "" || n == policy.RuleReply || n == policy.RuleResolver {
		return
	}
	d := e.policies[f.GetPolicy()]
	if d == nil {
		d = newDossier()
		e.policies[f.GetPolicy()] = d
	}
	if d.firstNs == 0 || f.GetTimeNs() < d.firstNs {
		d.firstNs = f.GetTimeNs()
	}
	d.lastNs = max(d.lastNs, f.GetTimeNs())
	if n := f.GetRule(); n >= policy.RuleReserved {
		d.used[n] = max(d.used[n], f.GetTimeNs())
	}
	proto, port := policy.Proto(f.GetProto()), uint16(f.GetDstPort())
	if proto != policy.ProtoTCP && proto != policy.ProtoUDP {
		port = 0
	}
	e.sighted(d, w, dest{policy.Canonical(dst), proto, port}, f)
}

func (e *evidence) sighted(d *dossier, w *observed, to dest, f *schemas.Flow) {
	s := d.dests[to]
	if s == nil {
		if len(d.dests) >= e.limits.Destinations || e.total >= e.limits.Total {
			d.beyond += f.GetCount()
			w.lost += f.GetCount()
			w.lostNs = max(w.lostNs, f.GetTimeNs())
			return
		}
		s = &sightings{firstNs: f.GetTimeNs()}
		d.dests[to] = s
		e.total++
		d.newNs = max(d.newNs, f.GetTimeNs())
		w.newNs = max(w.newNs, f.GetTimeNs())
	}
	s.count += f.GetCount()
	if f.GetVerdict() != schemas.Verdict_VERDICT_ALLOW {
		s.denied += f.GetCount()
		s.deniedNs = max(s.deniedNs, f.GetTimeNs())
		d.dirty = true
		if f.GetVerdict() == schemas.Verdict_VERDICT_DENY {
			s.blocked = uint32(min(uint64(s.blocked)+f.GetCount(), math.MaxUint32))
		}
	}
	s.firstNs, s.lastNs = min(s.firstNs, f.GetTimeNs()), max(s.lastNs, f.GetTimeNs())
	note(s.comms[:], e.names.index(f.GetComm()))
	note(s.hosts[:], e.names.index(f.GetHost()))
}

// note puts an index into the first free place.
func note(places []uint16, n uint16) {
	for i, p := range places {
		if p == n || n == 0 {
			return
		}
		if p == 0 {
			places[i] = n
			return
		}
	}
}

// repeated tells whether the host's event was counted before: a host numbers
// its events, and a stream keeps them in order.
func (e *evidence) repeated(f *schemas.Flow) bool {
	at, err := schemas.FlowPosition(f.GetId())
	if err != nil {
		return false
	}
	boot := strings.TrimPrefix(f.GetId()[:strings.LastIndexByte(f.GetId(), '/')], f.GetHost()+"/")
	last, ok := e.heard[f.GetHost()]
	if ok && last.Boot == boot && at <= last.At {
		return true
	}
	e.heard[f.GetHost()] = position{boot, at}
	return false
}

// forget drops what was last seen before a time.
func (e *evidence) forget(beforeNs int64) {
	for _, d := range e.policies {
		for k, s := range d.dests {
			if s.lastNs < beforeNs {
				delete(d.dests, k)
				e.total--
				d.dirty = true
			}
		}
	}
}

// names turns strings into small numbers.
type names struct {
	most  int
	list  []string
	known map[string]uint16
}

func newNames(most int) *names {
	return &names{min(most, 65_000), []string{"", "(others)"}, map[string]uint16{"": 0}}
}

func (n *names) index(s string) uint16 {
	i, ok := n.known[s]
	if ok {
		return i
	}
	if len(n.list) >= n.most {
		return 1
	}
	i = uint16(len(n.list))
	s = strings.Clone(s)
	n.list = append(n.list, s)
	n.known[s] = i
	return i
}

// add appends the names that are not there yet.
func (n *names) add(to []string, places []uint16) []string {
	for _, p := range places {
		if p == 0 {
			break
		}
		if name := n.list[p]; !slices.Contains(to, name) {
			to = append(to, name)
		}
	}
	return to
}
