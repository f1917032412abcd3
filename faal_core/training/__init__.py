"""Class-wise fair adversarial training.

`recipe.train` is the loop, `step` one step, `methods` the class weights, and `selection` the choice of the weights that are kept.
"""
