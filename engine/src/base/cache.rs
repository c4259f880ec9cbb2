pub(super) struct BlockCache;
