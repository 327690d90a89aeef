"""What UNSIR is held against. Imports the engine and the kernels.

baselines    the paper's own: fine-tuning, gradient ascent, Fisher forgetting; a masked logit
zero_glance  today's methods that see no forget image either
forget_set   today's that train on the forget set; one_shot: today's that only look at it
passes       what those that train have in common; fisher: the Fisher information;
             piled_up: gradients that are never set to zero
"""
