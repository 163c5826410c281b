package main

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// flowsOptions are the flags of egw flows.
type flowsOptions struct {
	follow                        bool
	last                          int
	lastGiven                     bool
	since                         string
	host, container, workload, to string
	verdicts                      []string
	port                          int
}

// filter is a condition on a flow.
type filter func(*schemas.Flow) bool

// query turns the flags into what the log is asked.
func (o flowsOptions) query(now time.Time) (eventlog.FlowQuery, error) {
	q := eventlog.FlowQuery{Last: o.last, Follow: o.follow, Host: o.host}
	if o.last < 0 {
		return q, usageErrorf("last %d: want 0 or more", o.last)
	}
	var err error
	if o.since != "" {
		if q.Since, err = parseSince(o.since, now); err != nil {
			return q, err
		}
		if !o.lastGiven {
			q.Last = 0
		}
	}
	filters, err := o.filters()
	if err != nil {
		return q, err
	}
	q.Match = func(f *schemas.Flow) bool {
		for _, match := range filters {
			if !match(f) {
				return false
			}
		}
		return true
	}
	return q, nil
}

func (o flowsOptions) filters() ([]filter, error) {
	var all []filter
	if o.workload != "" {
		all = append(all, func(f *schemas.Flow) bool { return f.GetWorkload() == o.workload })
	}
	if o.container != "" {
		all = append(all, func(f *schemas.Flow) bool {
			return f.GetContainer() == o.container || strings.HasPrefix(f.GetContainerId(), o.container)
		})
	}
	if len(o.verdicts) > 0 {
		match, err := verdictFilter(o.verdicts)
		if err != nil {
			return nil, err
		}
		all = append(all, match)
	}
	if o.to != "" {
		match, err := destinationFilter(o.to)
		if err != nil {
			return nil, err
		}
		all = append(all, match)
	}
	if o.port < -1 || o.port > 65535 {
		return nil, usageErrorf("port %d: want 0 to 65535", o.port)
	}
	if o.port >= 0 {
		all = append(all, func(f *schemas.Flow) bool {
			return len(f.GetDstIp()) > 0 && f.GetDstPort() == uint32(o.port)
		})
	}
	return all, nil
}

func verdictFilter(words []string) (filter, error) {
	wanted := map[string]bool{}
	for _, word := range words {
		if _, err := policy.ParseVerdict(word); err != nil {
			return nil, usageErrorf("%w", err)
		}
		wanted[word] = true
	}
	return func(f *schemas.Flow) bool { return wanted[f.GetVerdict().Word()] }, nil
}

// destinationFilter takes an address or a network; IPv4 in IPv6 clothes is IPv4.
func destinationFilter(text string) (filter, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, usageErrorf("destination %q: want an address or a network like 192.0.2.0/24", text)
		}
		addr = addr.Unmap()
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	return func(f *schemas.Flow) bool {
		addr, ok := netip.AddrFromSlice(f.GetDstIp())
		return ok && prefix.Contains(addr.Unmap())
	}, nil
}

// parseSince reads a duration before now, days allowed, or a time.
func parseSince(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	return time.Time{}, usageErrorf("since %q: want a duration like 10m, 2h or 7d, or a time like 2006-01-02T15:04:05Z", text)
}
