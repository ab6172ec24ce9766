"""The linear part of the equilibrium map, in the forms A may take: one a file."""

from idl_cli.equilibrium.operators.base import NilpotentOperator as NilpotentOperator
from idl_cli.equilibrium.operators.base import Operator as Operator
from idl_cli.equilibrium.operators.base import written as written
from idl_cli.equilibrium.operators.blocks import BlockOperator as BlockOperator
from idl_cli.equilibrium.operators.convolution import ConvolutionLayout as ConvolutionLayout
from idl_cli.equilibrium.operators.convolution import ConvolutionOperator as ConvolutionOperator
from idl_cli.equilibrium.operators.convolution import maps_of as maps_of
from idl_cli.equilibrium.operators.convolution import rows_of as rows_of
from idl_cli.equilibrium.operators.crossover import most_nonzeros as most_nonzeros
from idl_cli.equilibrium.operators.crossover import sparse_pays as sparse_pays
from idl_cli.equilibrium.operators.dense import DenseOperator as DenseOperator
from idl_cli.equilibrium.operators.low_rank import LowRankOperator as LowRankOperator
from idl_cli.equilibrium.operators.pattern import SparsePattern as SparsePattern
from idl_cli.equilibrium.operators.product import product as product
from idl_cli.equilibrium.operators.sparse import SparseOperator as SparseOperator
from idl_cli.equilibrium.operators.sparse_triangular import (
    SparseTriangularOperator as SparseTriangularOperator,
)
from idl_cli.equilibrium.operators.transposed import TransposedOperator as TransposedOperator
from idl_cli.equilibrium.operators.triangular import (
    StrictlyUpperTriangularOperator as StrictlyUpperTriangularOperator,
)
