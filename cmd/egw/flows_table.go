package main

import (
	"bufio"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

const flowHeader = "TIME\tVERDICT\tWORKLOAD\tCONTAINER\tPROCESS\tPROTO\tDESTINATION\tCOUNT\tRULE\n"

// flowKey is what makes two events rows of the same flow.
type flowKey struct {
	host, workload, container, comm, reason, attempt string
	verdict                                          schemas.Verdict
	proto, port, rule                                uint32
	dst                                              string
}

type flowRow struct {
	flow   *schemas.Flow // the newest
	count  uint64
	timeNs int64
}

// flowTable joins repeats, and prints in the order of each flow's newest event.
type flowTable struct {
	out  *bufio.Writer
	rows map[flowKey]*flowRow
}

func (t *flowTable) print(f *schemas.Flow) {
	key := flowKey{
		host: f.GetHost(), workload: f.GetWorkload(), container: f.GetContainer(), comm: f.GetComm(), reason: f.GetReason(),
		attempt: f.GetAttempt(),
		verdict: f.GetVerdict(), proto: f.GetProto(), port: f.GetDstPort(), rule: f.GetRule(), dst: string(f.GetDstIp()),
	}
	row := t.rows[key]
	if row == nil {
		row = &flowRow{}
		t.rows[key] = row
	}
	row.count += f.GetCount()
	if row.flow == nil || f.GetTimeNs() >= row.timeNs {
		row.flow, row.timeNs = f, f.GetTimeNs()
	}
}

func (t *flowTable) end() {
	rows := make([]*flowRow, 0, len(t.rows))
	for _, row := range t.rows {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b *flowRow) int {
		return cmp.Or(cmp.Compare(a.timeNs, b.timeNs), cmp.Compare(a.flow.GetId(), b.flow.GetId()))
	})
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, flowHeader)
	for _, row := range rows {
		c := flowCells(row.flow, row.count)
		for i, cell := range c {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into a buffer; its own Flush tells
}

// flowLines prints each flow as it comes, in columns of fixed width.
type flowLines struct {
	out  *bufio.Writer
	head bool
}

var flowWidths = [...]int{19, 10, 20, 20, 15, 5, 24, 5, 0}

func (l *flowLines) print(f *schemas.Flow) {
	if !l.head {
		l.head = true
		l.line([...]string{"TIME", "VERDICT", "WORKLOAD", "CONTAINER", "PROCESS", "PROTO", "DESTINATION", "COUNT", "RULE"})
	}
	l.line(flowCells(f, f.GetCount()))
}

func (l *flowLines) line(cells [9]string) {
	for i, cell := range cells[:len(cells)-1] {
		fmt.Fprintf(l.out, "%-*s  ", flowWidths[i], cell)
	}
	fmt.Fprintln(l.out, cells[len(cells)-1])
}

func (l *flowLines) end() {}

func flowCells(f *schemas.Flow, count uint64) [9]string {
	return [9]string{
		time.Unix(0, f.GetTimeNs()).Format(time.DateTime), f.GetVerdict().Word(),
		dash(f.GetWorkload()), dash(f.GetContainer()), dash(f.GetComm()), schemas.ProtoWord(f.GetProto()),
		destination(f), strconv.FormatUint(count, 10), ruleWord(f),
	}
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return printable(text)
}

func destination(f *schemas.Flow) string {
	addr, ok := netip.AddrFromSlice(f.GetDstIp())
	if !ok {
		return "(" + dash(cmp.Or(f.GetAttempt(), f.GetReason())) + ")"
	}
	if f.GetDstPort() == 0 {
		return addr.String()
	}
	return netip.AddrPortFrom(addr, uint16(f.GetDstPort())).String()
}

// ruleWord names what decided.
func ruleWord(f *schemas.Flow) string {
	switch f.GetRule() {
	case policy.RuleNone:
		return "-"
	case policy.RuleResolver:
		return "resolver"
	case policy.RuleReply:
		return "reply"
	case policy.RuleSocket, policy.RuleOption:
		return "gate"
	}
	return fmt.Sprintf("%08x", f.GetRule())
}
