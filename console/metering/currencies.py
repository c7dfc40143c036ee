"""ISO 4217: the currencies in use and how many digits their smallest unit has.  Pure.

Source: the standard's list one of funds and current currencies, without precious metals, units of account and test codes.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from console.metering.units import EXACT

_TWO = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK
DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD
KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP
PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH
USD UYU UZS VED VES WST XCD YER ZAR ZMW
"""
_NONE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"
DIGITS = {
    **dict.fromkeys(_TWO.split(), 2),
    **dict.fromkeys(_NONE.split(), 0),
    **dict.fromkeys(_THREE.split(), 3),
}


def rounded(amount: Decimal, currency: str) -> Decimal:
    """Half-even, to the currency's smallest unit: what a person can pay."""
    wide = EXACT.copy()
    wide.clear_traps()
    return amount.quantize(Decimal(1).scaleb(-DIGITS[currency]), ROUND_HALF_EVEN, wide)
