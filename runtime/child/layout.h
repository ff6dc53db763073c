// Offsets of the structs in region.go; a test holds them against each other.

#define header_ops 0
#define header_errfd 8
#define header_report 16
#define header_status 24
#define header_all 32
#define header_handed 40

#define apart_outer 0
#define apart_inner 88
#define apart_code 176
#define apart_header 184
#define apart_ns 192
#define apart_helper 200
#define apart_result 208
#define apart_args_size 88

#define op_nr 0
#define op_args 8
#define op_save 56
#define op_hole 64
#define op_refs 72
#define op_flags 76
#define op_may 80
#define op_skip 92
#define op_then 96
#define op_result 104
#define op_tick 112
#define op_size 120

#define flag_nonzero 1
#define flag_reap 2
#define flag_hand 4
#define flag_once 8
