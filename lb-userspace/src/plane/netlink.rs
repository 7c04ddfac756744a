//! The kernel's ear for questions about devices, addresses, routes, rules and neighbours (rtnetlink(7)).

use rtnetlink::{Error, Handle};

/// Must be called within a runtime; the connection ends with the last handle.
pub fn connect() -> Result<Handle, Error> {
    let made = rtnetlink::new_connection();
    let (connection, handle, _) = made.map_err(|error| Error::NamespaceError(error.to_string()))?;
    tokio::spawn(connection);
    Ok(handle)
}
