//! What is done around every request, whichever transport it came by.

pub mod permit_body;
pub mod request_id;
