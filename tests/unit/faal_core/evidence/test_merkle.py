"""The root of the Merkle tree is that of RFC 6962."""

import hashlib

import pytest

from faal_core.evidence.merkle import compute_root

# The inputs and roots that the tests of Certificate Transparency use.
_INPUTS = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
_ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize("leaves", _ROOTS)
def test_roots_are_those_of_certificate_transparency(leaves: int) -> None:
    """The published roots of up to eight leaves are reproduced."""
    assert compute_root([bytes.fromhex(text) for text in _INPUTS[:leaves]]) == _ROOTS[leaves]


def test_the_root_follows_the_recursive_definition() -> None:
    """For up to 40 leaves, the root is the one that RFC 6962 defines by halving the list at a power of two."""

    def define(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return hashlib.sha256(b"\0" + leaves[0]).digest()
        half = 1 << ((len(leaves) - 1).bit_length() - 1)
        return hashlib.sha256(b"\1" + define(leaves[:half]) + define(leaves[half:])).digest()

    for count in range(1, 41):
        leaves = [bytes([n]) * n for n in range(count)]
        assert compute_root(leaves) == define(leaves).hex()
