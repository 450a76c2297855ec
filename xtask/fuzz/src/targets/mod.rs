//! The targets, one file each: a function that takes bytes and must not panic.

pub mod blk_request;
pub mod bundle;
pub mod channel_registers;
pub mod crypto_open;
pub mod exit_decode;
pub mod flash_anchor;
pub mod gpt;
pub mod image_header;
pub mod log_record;
pub mod machine_tree;
pub mod nvme;
pub mod pci_function;
pub mod pl011;
pub mod psci_calls;
pub mod rpmb;
pub mod service;
pub mod smmu_events;
pub mod superblock;
pub mod trace_told;
pub mod tree_leaf;
pub mod vgic_mmio;
pub mod virtio_blk;
pub mod virtio_pci;
pub mod virtqueue;
pub mod volume_mount;

/// A target: its name on the command line, and the function that reads foreign bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: &[Target] = &[
    ("blk_request", blk_request::run),
    ("bundle", bundle::run),
    ("channel_registers", channel_registers::run),
    ("crypto_open", crypto_open::run),
    ("exit_decode", exit_decode::run),
    ("flash_anchor", flash_anchor::run),
    ("gpt", gpt::run),
    ("image_header", image_header::run),
    ("log_record", log_record::run),
    ("machine_tree", machine_tree::run),
    ("nvme", nvme::run),
    ("pci_function", pci_function::run),
    ("pl011", pl011::run),
    ("psci_calls", psci_calls::run),
    ("rpmb", rpmb::run),
    ("service", service::run),
    ("smmu_events", smmu_events::run),
    ("superblock", superblock::run),
    ("trace_told", trace_told::run),
    ("tree_leaf", tree_leaf::run),
    ("vgic_mmio", vgic_mmio::run),
    ("virtio_blk", virtio_blk::run),
    ("virtio_pci", virtio_pci::run),
    ("virtqueue", virtqueue::run),
    ("volume_mount", volume_mount::run),
];
