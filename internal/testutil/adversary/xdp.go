package adversary

import (
	"fmt"
	"net"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendXDP transmits one frame of a tiny area by an AF_XDP socket in copy mode.
func sendXDP(mac net.HardwareAddr, ip []byte) error {
	const chunk, area, slots = 2048, 8192, 4
	frame, err := ethernet(mac, ip)
	if err != nil {
		return err
	}
	return socket(unix.AF_XDP, unix.SOCK_RAW, 0, func(fd int) error {
		mem, err := unix.Mmap(-1, 0, area, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return step("mmap", err)
		}
		defer unix.Munmap(mem)
		copy(mem, frame)
		reg := unix.XDPUmemReg{Addr: uint64(ptr(mem)), Len: area, Size: chunk}
		err = setStruct(fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg))
		for _, name := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_TX_RING} {
			if err == nil {
				err = step("setsockopt", unix.SetsockoptInt(fd, unix.SOL_XDP, name, slots))
			}
		}
		if err != nil {
			return err
		}
		var offsets unix.XDPMmapOffsets
		size := uint32(unsafe.Sizeof(offsets))
		_, _, no := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS,
			uintptr(unsafe.Pointer(&offsets)), uintptr(unsafe.Pointer(&size)), 0)
		if no != 0 {
			return step("getsockopt", no)
		}
		ring, err := unix.Mmap(fd, unix.XDP_PGOFF_TX_RING, int(offsets.Tx.Desc)+slots*16,
			unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return step("mmap", err)
		}
		defer unix.Munmap(ring)
		to := &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(ifindex(device))}
		if err := unix.Bind(fd, to); err != nil {
			return step("bind", err)
		}
		*(*unix.XDPDesc)(unsafe.Pointer(&ring[offsets.Tx.Desc])) = unix.XDPDesc{Len: uint32(len(frame))}
		atomic.StoreUint32((*uint32)(unsafe.Pointer(&ring[offsets.Tx.Producer])), 1)
		if err := unix.Sendto(fd, nil, unix.MSG_DONTWAIT, nil); err != nil {
			return step("sendto", fmt.Errorf("wake up: %w", err))
		}
		return nil
	})
}

func setStruct(fd, name int, value unsafe.Pointer, size uintptr) error {
	_, _, no := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(name), uintptr(value), size, 0)
	return step("setsockopt", errnoOrNil(no))
}
