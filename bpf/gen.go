package bpf

// The object is little-endian only: amd64 and arm64. clang's version is part
// of the output, so it is named.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -nostdinc -mcpu=v3" -target bpfel -type event -type container_id -type birth -type hook -type reason -type state -type setting -type header -type counts -type overflow -type asked -type flow -type flow_key -type peer_key -type heard_key -type lpm_v4 -type lpm_v6 -type lpm_ports -type prefix_value -type port_value gate src/gate.c
