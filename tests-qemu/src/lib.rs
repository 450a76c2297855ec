//! System tests: the whole of Haechi in QEMU.
