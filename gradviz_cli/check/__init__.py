"""Are the maps of a model right, and do they depend on what it has learnt? Two questions, in that order.

    numbers   the proof of the model (`worker.proof`), its slope asked too: a finite difference shares no code with a gradient
    meaning   maps of a model whose kernels are drawn anew from the score down, maps of other classes, and a filter for
              edges that knows no model, each beside the maps themselves

`cascade` asks the model, `measures` compares maps, `verdicts` says what follows, `sheet` draws the cascade.
"""
