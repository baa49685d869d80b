//! The names of the kernel's error numbers, as manual pages and logs have them.

/// The name of `errno`, such as `ECONNREFUSED`, of those that a socket can meet.
pub(crate) fn name(errno: i32) -> Option<&'static str> {
    NAMES.iter().find(|(number, _)| *number == errno).map(|(_, name)| *name)
}

/// Makes each name stand beside its number: the numbers differ between architectures, the names do not.
macro_rules! named {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

/// See errno(3).
const NAMES: &[(i32, &str)] = named! {
    EPERM ENOENT EINTR EIO ENXIO E2BIG EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST ENODEV EINVAL ENFILE
    EMFILE EFBIG ENOSPC EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOSYS ELOOP EOVERFLOW EPROTO EBADMSG ENOTSOCK
    EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT
    EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS
    EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS
    ESTALE EDQUOT ECANCELED ENOKEY EKEYREJECTED ENONET ENOLINK ECOMM EREMOTEIO
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_names() {
        assert_eq!((name(libc::EPROTO), name(libc::ECONNRESET)), (Some("EPROTO"), Some("ECONNRESET")));
        assert_eq!(name(0), None);
    }
}
