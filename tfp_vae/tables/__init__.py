"""Tables of named columns: their kinds, and the way to arrays and back.

pandas is needed only for DataFrames.
"""

from tfp_vae.tables.column import KINDS, Column
from tfp_vae.tables.encoder import TableEncoder
from tfp_vae.tables.guess import guess_column

__all__ = ["KINDS", "Column", "TableEncoder", "guess_column"]
