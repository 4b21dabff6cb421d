//! Utterances that go through the model together, and whose they are.

use chandler_core::RequestId;

use crate::ctc::Hearing;

/// Utterances on their way.
pub(super) struct Underway {
    pub(super) hearing: Hearing,
    pub(super) members: Vec<Member>,
}

/// Whose an utterance is.
pub(super) struct Member {
    /// None when nobody waits for it any more.
    pub(super) owner: Option<RequestId>,
    pub(super) channel: usize,
    /// Its first sample in what is heard of the channel.
    pub(super) at: usize,
}

impl Underway {
    /// Notes that a request has gone. Whether nobody is left who waits.
    pub(super) fn forget(&mut self, id: RequestId) -> bool {
        for member in &mut self.members {
            member.owner = member.owner.filter(|owner| *owner != id);
        }
        self.members.iter().all(|member| member.owner.is_none())
    }
}
