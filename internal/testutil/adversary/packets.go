package adversary

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ethExperiment  = 0x88b5
	vnetHeaderSize = 10
)

// packets are sockets below IP.
func packets() []Technique {
	return many(
		both(Technique{Name: "packet raw", How: "AF_PACKET, SOCK_RAW: a whole frame", Cap: "NET_RAW"}, func(a *attempt, family string) error {
			return a.frame(family, sendWhole)
		}),
		both(Technique{Name: "packet dgram", How: "AF_PACKET, SOCK_DGRAM: all but the Ethernet header", Cap: "NET_RAW"}, func(a *attempt, family string) error {
			return a.frame(family, func(mac net.HardwareAddr, ip []byte) error { return sendFrame(device, mac, ip) })
		}),
		both(Technique{Name: "packet bypass", How: "AF_PACKET with PACKET_QDISC_BYPASS", Cap: "NET_RAW"}, func(a *attempt, family string) error {
			return a.frame(family, func(mac net.HardwareAddr, ip []byte) error {
				return sendFrame(device, mac, ip, setInt(unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
			})
		}),
		both(Technique{Name: "packet vnet", How: "AF_PACKET with PACKET_VNET_HDR", Cap: "NET_RAW"}, func(a *attempt, family string) error {
			return a.frame(family, sendVnet)
		}),
		both(Technique{Name: "packet ring", How: "AF_PACKET with PACKET_TX_RING", Cap: "NET_RAW"}, func(a *attempt, family string) error {
			return a.frame(family, sendRing)
		}),
		both(Technique{Name: "packet old", How: "AF_INET, SOCK_PACKET, as in Linux 2.0", Cap: "NET_RAW"}, func(a *attempt, family string) error {
			return a.frame(family, sendOld)
		}),
		[]Technique{
			{Name: "xdp", Family: "4", How: "AF_XDP, in copy mode", Needs: "XDP sockets", Cap: "NET_RAW", Phase: PhaseMany, run: func(a *attempt) error {
				return a.frame("4", sendXDP)
			}},
			{Name: "packet type", How: "AF_PACKET: a frame of no known type to the bridge", Cap: "NET_RAW", Phase: PhaseMany, run: func(a *attempt) error {
				mac, err := a.router()
				if err != nil {
					return err
				}
				return sendTyped(device, mac, a.text, ethExperiment)
			}},
			{Name: "packet neighbour", Family: "4", How: "AF_PACKET: a packet for elsewhere to another container's own address", Cap: "NET_RAW", Phase: PhaseMany, run: func(a *attempt) error {
				own, err := a.own("4")
				if err != nil {
					return err
				}
				four := a.Neighbour4.As4() // Docker makes the address of the IPv4 address
				mac := net.HardwareAddr{0x02, 0x42, four[0], four[1], four[2], four[3]}
				return sendFrame(device, mac, ipPacket(own, a.Addr4(), unix.IPPROTO_UDP, udpPacket(own, a.Addr4(), 4000, 443, a.text)))
			}},
			{Name: "packet arp", How: "AF_PACKET: an ARP question with the message behind", Cap: "NET_RAW", Phase: PhaseMany, run: func(a *attempt) error {
				own, err := a.own("4")
				if err != nil {
					return err
				}
				ifi, err := net.InterfaceByName(device)
				if err != nil {
					return err
				}
				arp := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, ifi.HardwareAddr...)
				arp = append(append(arp, own.AsSlice()...), make([]byte, 6)...)
				arp = append(append(arp, a.Neighbour4.AsSlice()...), a.text...)
				return sendTyped(device, net.HardwareAddr{255, 255, 255, 255, 255, 255}, arp, unix.ETH_P_ARP)
			}},
		})
}

// frame sends a datagram to the technique's destination by way of the router.
func (a *attempt) frame(family string, send func(net.HardwareAddr, []byte) error) error {
	own, err := a.own(family)
	if err != nil {
		return err
	}
	mac, err := a.router()
	if err != nil {
		return err
	}
	to := a.to(family).Addr()
	return send(mac, ipPacket(own, to, unix.IPPROTO_UDP, udpPacket(own, to, 4000, 443, a.text)))
}

// router is the gateway's address on the link, which the controls have made
// known.
func (a *attempt) router() (net.HardwareAddr, error) {
	text, err := os.ReadFile("/proc/net/arp")
	if err != nil {
		return nil, step("read /proc/net/arp", err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == a.Gateway4.String() {
			return net.ParseMAC(f[3])
		}
	}
	return nil, errors.New("the router's link address is not known")
}

func etherType(ip []byte) uint16 {
	if ip[0]>>4 == 4 {
		return unix.ETH_P_IP
	}
	return unix.ETH_P_IPV6
}

func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

func linkAddr(dev string, mac net.HardwareAddr, kind uint16) *unix.SockaddrLinklayer {
	to := &unix.SockaddrLinklayer{Protocol: htons(kind), Ifindex: ifindex(dev), Halen: 6}
	copy(to.Addr[:], mac)
	return to
}

// sendFrame lets the kernel write the Ethernet header.
func sendFrame(dev string, mac net.HardwareAddr, ip []byte, prepare ...tweak) error {
	return sendTyped(dev, mac, ip, etherType(ip), prepare...)
}

func sendTyped(dev string, mac net.HardwareAddr, text []byte, kind uint16, prepare ...tweak) error {
	return socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0, func(fd int) error {
		if err := apply(fd, prepare); err != nil {
			return err
		}
		return step("sendto", unix.Sendto(fd, text, 0, linkAddr(dev, mac, kind)))
	})
}

// ethernet puts the header before.
func ethernet(mac net.HardwareAddr, ip []byte) ([]byte, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, step("find eth0", err)
	}
	b := append(append([]byte{}, mac...), ifi.HardwareAddr...)
	return append(binary.BigEndian.AppendUint16(b, etherType(ip)), ip...), nil
}

func sendWhole(mac net.HardwareAddr, ip []byte) error {
	frame, err := ethernet(mac, ip)
	if err != nil {
		return err
	}
	return socket(unix.AF_PACKET, unix.SOCK_RAW, 0, func(fd int) error {
		return step("sendto", unix.Sendto(fd, frame, 0, linkAddr(device, mac, etherType(ip))))
	})
}

func sendVnet(mac net.HardwareAddr, ip []byte) error {
	frame, err := ethernet(mac, ip)
	if err != nil {
		return err
	}
	return socket(unix.AF_PACKET, unix.SOCK_RAW, 0, func(fd int) error {
		if err := apply(fd, []tweak{setInt(unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)}); err != nil {
			return err
		}
		return step("sendto", unix.Sendto(fd, append(make([]byte, vnetHeaderSize), frame...), 0, linkAddr(device, mac, etherType(ip))))
	})
}

// sendOld uses the address of SOCK_PACKET: the device's name.
func sendOld(mac net.HardwareAddr, ip []byte) error {
	frame, err := ethernet(mac, ip)
	if err != nil {
		return err
	}
	return socket(unix.AF_INET, unix.SOCK_PACKET, int(htons(etherType(ip))), func(fd int) error {
		name := make([]byte, 18) // struct sockaddr_pkt
		binary.NativeEndian.PutUint16(name, unix.AF_INET)
		copy(name[2:], device)
		binary.BigEndian.PutUint16(name[16:], etherType(ip))
		_, _, no := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), ptr(frame), uintptr(len(frame)), 0, ptr(name), uintptr(len(name)))
		return step("sendto", errnoOrNil(no))
	})
}

// sendRing writes into a ring of two frames that the kernel reads.
func sendRing(mac net.HardwareAddr, ip []byte) error {
	const size, headroom, wanted = 4096, 32, 1
	frame, err := ethernet(mac, ip)
	if err != nil {
		return err
	}
	return socket(unix.AF_PACKET, unix.SOCK_RAW, 0, func(fd int) error {
		err := errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2),
			unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_TX_RING,
				&unix.TpacketReq{Block_size: size, Block_nr: 1, Frame_size: size / 2, Frame_nr: 2}))
		if err != nil {
			return step("setsockopt", err)
		}
		ring, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return step("mmap", err)
		}
		defer unix.Munmap(ring)
		h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&ring[0]))
		h.Len = uint32(len(frame))
		copy(ring[headroom:], frame)
		h.Status = wanted
		return step("sendto", unix.Sendto(fd, nil, 0, linkAddr(device, mac, etherType(ip))))
	})
}
