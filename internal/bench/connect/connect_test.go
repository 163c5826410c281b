package main

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

func TestPrefixesLieApartInLoopback(t *testing.T) {
	for _, n := range []int{1, 10, 1000, 100_000} {
		ps := prefixesOf(n)
		if len(ps) != n {
			t.Fatalf("%d prefixes, want %d", len(ps), n)
		}
		slices.SortFunc(ps, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
		for i, p := range ps {
			if !p.Addr().IsLoopback() || p != p.Masked() {
				t.Fatalf("%s", p)
			}
			if i > 0 && ps[i-1].Overlaps(p) {
				t.Fatalf("%s overlaps %s", ps[i-1], p)
			}
		}
	}
}

func TestEveryDestinationIsAllowed(t *testing.T) {
	for _, n := range []int{10, 1000} {
		w, table := walk(prefixesOf(n)), tableOf(prefixesOf(n))
		seen := map[uint32]bool{}
		for i := range uint64(5000) {
			a := w.at(1<<32 + i)
			seen[binary.BigEndian.Uint32(a[:])] = true
			if m := table.Match(netip.AddrFrom4(a), 6, 443); m.Rule == 0 {
				t.Fatalf("%v is not allowed", a)
			}
		}
		if len(seen) < 4900 {
			t.Errorf("%d prefixes: %d of 5000 destinations are different", n, len(seen))
		}
	}
}

func TestWorkerDoesEveryKindOfTurn(t *testing.T) {
	k, err := newWorker(10)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"connect", "udp", "send", "bulk", socketUDP, socketTCP} {
		for _, fresh := range []bool{false, true} {
			times, err := k.do(turn{Kind: kind, New: fresh, First: 1000, Batches: 3})
			if err != nil || len(times) != 3 {
				t.Errorf("%s, new %v: %v, %v", kind, fresh, times, err)
			}
		}
	}
}

func TestEverybodyIsTheFirstEquallyOften(t *testing.T) {
	c := &crew{}
	for _, r := range allRoles {
		c.members = append(c.members, &member{role: r})
	}
	for _, k := range allKinds() {
		first, n := map[string]int{}, len(c.order(k.turn, 0))
		for round := range 3 * n {
			order := c.order(k.turn, round)
			first[order[0].name]++
			if len(order) != n {
				t.Errorf("%s: %d members in round %d, %d before", k.name, len(order), round, n)
			}
		}
		for name, times := range first {
			if times != 3 || len(first) != n {
				t.Errorf("%s: %s is the first in %d of %d rounds, %d others ever", k.name, name, times, 3*n, len(first)-1)
			}
		}
	}
}

func TestRatioIsTheMedianOfRounds(t *testing.T) {
	if got := ratio([]float64{2, 30, 8}, []float64{1, 10, 2}); got != 3 {
		t.Errorf("ratio %v, want 3", got)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median %v, want 2.5", got)
	}
}
