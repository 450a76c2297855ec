//! The commands that this driver gives (IHI 0070, chapter 4): 16 bytes each.

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `CMD_CFGI_ALL`: forget every cached entry of the stream table.
    ForgetConfiguration,
    /// `CMD_TLBI_NSNH_ALL`: forget every translation of EL1 and stage 2.
    ForgetTranslations,
    /// `CMD_TLBI_EL2_ALL`: and those of EL2, which an earlier stage of boot may have left.
    ForgetEl2,
    /// `CMD_SYNC` without a signal: it is consumed when all before it is done.
    Sync,
}

impl Command {
    /// Its two words.
    pub const fn encode(self) -> [u64; 2] {
        match self {
            // A range of all streams: 2^(31 + 1).
            Command::ForgetConfiguration => [0x04, 31],
            Command::ForgetTranslations => [0x30, 0],
            Command::ForgetEl2 => [0x20, 0],
            Command::Sync => [0x46, 0],
        }
    }
}
