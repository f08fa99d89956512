"""Keys of records, held against the vectors of the RFCs; whole sessions are in test_session."""

import pytest

from pcapdiag.engine.decryption.suites import SUITES, expand_label, next_secret, opener_13, openers_12

# RFC 8448 section 3: the server's and the client's secrets of a handshake in full, and a record of application data.
CLIENT_TRAFFIC = bytes.fromhex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5")
KEY, IV = "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"
RECORD = bytes.fromhex(
    "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2"
    "977014bd1e3deae63aeebb21694915e4"
)
AES_128_GCM = SUITES[0x1301]


def test_keys_of_records_are_derived_as_in_rfc_8448():
    assert expand_label(AES_128_GCM, CLIENT_TRAFFIC, b"key", 16).hex() == KEY
    assert expand_label(AES_128_GCM, CLIENT_TRAFFIC, b"iv", 12).hex() == IV


def test_the_record_of_rfc_8448_is_opened_by_its_number_alone():
    opener = opener_13(AES_128_GCM, CLIENT_TRAFFIC)
    assert opener.open(0, RECORD[:5], RECORD[5:]) == bytes(range(50)) + b"\x17"
    assert opener.open(1, RECORD[:5], RECORD[5:]) is None


def test_a_key_update_has_another_secret_of_the_same_length():
    updated = next_secret(AES_128_GCM, CLIENT_TRAFFIC)
    assert len(updated) == len(CLIENT_TRAFFIC)
    assert opener_13(AES_128_GCM, updated).open(0, RECORD[:5], RECORD[5:]) is None


@pytest.mark.parametrize("number", [n for n in SUITES if n >> 8 != 0x13])
@pytest.mark.parametrize("is_mac_outside", [False, True])
def test_bodies_of_any_length_that_no_key_fits_are_none(number, is_mac_outside):
    for opener in openers_12(SUITES[number], bytes(48), bytes(32), bytes(32), is_mac_outside=is_mac_outside):
        for n_bytes in (0, 1, 7, 8, 15, 16, 17, 31, 32, 48, 64, 80, 200):
            assert opener.open(0, b"\x17\x03\x03\x00\x00", bytes(n_bytes)) is None
