"""Authorities and certificates of a test's own."""

import trustme


def new_authority():
    return trustme.CA()


def write_ca(folder, authority):
    """The file whose holders trust the authority."""
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return str(folder / "ca.pem")


def write_identity(folder, authority, name):
    """The TlsConfig of a process that is `name`; the files are written anew each time."""
    issued = authority.issue_cert("localhost", "127.0.0.1", common_name=name)
    issued.private_key_pem.write_to_path(folder / f"{name}.key")
    (folder / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return {"certificate": str(folder / f"{name}.pem"), "private_key": str(folder / f"{name}.key")}
