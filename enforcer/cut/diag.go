package cut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/policy"
)

// The kernel's numbers, of include/uapi/linux/inet_diag.h and net/tcp_states.h.
const (
	attrCgroupID = 21 // since 5.9

	established, synSent, synRecv, finWait1, finWait2, closed = 1, 2, 3, 4, 5, 7

	closeWait, lastAck, listen, closing = 8, 9, 10, 11
)

// carrying are the states in which a socket sends to a peer, waiting those in
// which it takes what comes.
var (
	carrying = map[policy.Proto]uint32{
		policy.ProtoTCP: 1<<established | 1<<synSent | 1<<synRecv | 1<<finWait1 | 1<<finWait2 | 1<<closeWait | 1<<lastAck | 1<<closing,
		policy.ProtoUDP: 1 << established,
	}
	waiting = map[policy.Proto]uint32{policy.ProtoTCP: 1 << listen, policy.ProtoUDP: 1 << closed}
)

// socketID is struct inet_diag_sockid. Ports are big endian.
type socketID struct {
	SrcPort, DstPort [2]byte
	Src, Dst         [16]byte
	Device           uint32
	Cookie           [2]uint32
}

// question is struct inet_diag_req_v2.
type question struct {
	Family, Proto, Ext, Pad uint8
	States                  uint32
	ID                      socketID
}

// found is struct inet_diag_msg.
type found struct {
	Family, State, Timer, Retrans         uint8
	ID                                    socketID
	Expires, Received, Unsent, UID, Inode uint32
}

const foundSize = 72

// connection is a socket with the cgroup that it was made in.
type connection struct {
	family uint8
	proto  policy.Proto
	id     socketID
	cgroup uint64
	// local and remote are canonical: a mapped address is one of IPv4.
	local, remote netip.AddrPort
}

func (c connection) String() string { return fmt.Sprintf("%s %s -> %s", c.proto, c.local, c.remote) }

// diag asks the kernel about the sockets of one network namespace.
type diag struct{ socket *nl.SocketHandle }

// answerSeconds is how long the kernel has for one answer.
const answerSeconds = 10

func newDiag(s *nl.NetlinkSocket) (*diag, error) {
	most := unix.Timeval{Sec: answerSeconds}
	if err := errors.Join(s.SetSendTimeout(&most), s.SetReceiveTimeout(&most)); err != nil {
		s.Close()
		return nil, err
	}
	return &diag{&nl.SocketHandle{Socket: s}}, nil
}

func (d *diag) close() { d.socket.Close() }

func (d *diag) ask(kind, flags int, q question, each func([]byte) bool) error {
	data, err := binary.Append(nil, binary.NativeEndian, q)
	if err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_SOCK_DIAG: d.socket}
	req.AddRawData(data)
	return req.ExecuteIter(unix.NETLINK_SOCK_DIAG, 0, each)
}

// list gives the sockets that are in one of the states.
func (d *diag) list(proto policy.Proto, states uint32) ([]connection, error) {
	var all []connection
	var bad error
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		q := question{Family: family, Proto: uint8(proto), States: states}
		err := d.ask(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, q, func(m []byte) bool {
			c, err := decode(m, proto)
			bad = errors.Join(bad, err)
			all = append(all, c)
			return err == nil
		})
		if err = errors.Join(err, bad); err != nil {
			return nil, fmt.Errorf("list %s sockets: %w", proto, err)
		}
	}
	return all, nil
}

// destroy ends a connection: TCP with a reset to its peer and ECONNABORTED for
// the application. ENOENT says that it ended by itself: the cookie keeps
// another socket of the same addresses from being meant.
func (d *diag) destroy(c connection) error {
	q := question{Family: c.family, Proto: uint8(c.proto), ID: c.id}
	return d.ask(nl.SOCK_DESTROY, unix.NLM_F_ACK, q, func([]byte) bool { return true })
}

func decode(m []byte, proto policy.Proto) (connection, error) {
	var f found
	if _, err := binary.Decode(m, binary.NativeEndian, &f); err != nil {
		return connection{}, fmt.Errorf("message of %d bytes: %w", len(m), err)
	}
	attrs, err := nl.ParseRouteAttr(m[foundSize:])
	if err != nil {
		return connection{}, fmt.Errorf("attributes: %w", err)
	}
	c := connection{
		family: f.Family, proto: proto, id: f.ID,
		local: addrPort(f.Family, f.ID.Src, f.ID.SrcPort), remote: addrPort(f.Family, f.ID.Dst, f.ID.DstPort),
	}
	for _, a := range attrs {
		if a.Attr.Type == attrCgroupID && len(a.Value) == 8 {
			c.cgroup = binary.NativeEndian.Uint64(a.Value)
		}
	}
	return c, nil
}

func addrPort(family uint8, ip [16]byte, port [2]byte) netip.AddrPort {
	addr := netip.AddrFrom16(ip)
	if family == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(ip[:4]))
	}
	return netip.AddrPortFrom(policy.Canonical(addr), binary.BigEndian.Uint16(port[:]))
}
