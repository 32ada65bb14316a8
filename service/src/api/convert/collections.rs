//! Requests about collections.

use crate::collection::CollectionName;
use crate::error::Error;

/// The numbers of shards that the hosted API takes. They are kept, and mean nothing to one machine.
const SHARDS: [i64; 5] = [1, 8, 16, 32, 64];

/// The fields of a request for a new collection in either protocol.
pub(crate) struct AddCollectionFields {
    pub(crate) collection_name: String,
    pub(crate) num_shards: Option<i64>,
}

impl AddCollectionFields {
    /// Checks the limits.
    pub(crate) fn into_request(self) -> Result<(CollectionName, u32), Error> {
        let Self { collection_name, num_shards } = self;
        let name = CollectionName::new(collection_name)?;
        let shards = num_shards.unwrap_or(SHARDS[0]);
        match u32::try_from(shards) {
            Ok(number) if SHARDS.contains(&shards) => Ok((name, number)),
            _ => {
                let message = format!("`num_shards` is {shards}; it may be 1, 8, 16, 32 or 64");
                Err(Error::Invalid { message })
            }
        }
    }
}

/// The collection to count the documents of, if it is one.
pub(crate) fn counted(collection_name: Option<String>) -> Result<Option<CollectionName>, Error> {
    // The hosted API has no 400 here: a name that no collection can have is not found.
    let name = collection_name.map(|name| {
        CollectionName::new(name.clone()).map_err(|_| Error::CollectionNotFound { name })
    });
    name.transpose()
}
