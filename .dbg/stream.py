"""Streaming rate of chains of linears under variants of the headers (debug)."""
import sys, re, statistics, torch, pathlib, itertools
sys.path.insert(0,'.')
from onelaunch.targets.cuda import compiler
from onelaunch.frontend.backend import backend
ring=compiler.INCLUDE/"onelaunch"/"ring.cuh"; base=ring.read_text()
from onelaunch.targets.cuda import emit
def bench(model,x,nbytes,reps=30):
    torch._dynamo.reset()
    call=torch.compile(model,backend=backend,fullgraph=True,options={"target":"cuda","fallback":"error","cache":False})
    y=call(x); y=call(x)
    want=model(x)
    err=float((y.float()-want.float()).norm()/want.float().norm())
    g=torch.cuda.CUDAGraph()
    with torch.cuda.graph(g): call(x)
    ts=[]
    for _ in range(reps):
        a,b=torch.cuda.Event(enable_timing=True),torch.cuda.Event(enable_timing=True)
        a.record(); g.replay(); b.record(); b.synchronize(); ts.append(a.elapsed_time(b))
    t=statistics.median(ts)
    return f"{nbytes/t/1e9:.2f} TB/s {t*1e3:.0f}us err {err:.1e}"
def lin(a,b): return torch.nn.Linear(a,b,bias=False,dtype=torch.bfloat16,device="cuda")
@torch.no_grad()
def main():
    torch.manual_seed(0)
    heads={k:lin(k,n) for k,n in ((4096,151936),(2048,128256),(12288,40960),(576,400000))}
    chain=torch.nn.Sequential(*[l for _ in range(8) for l in (lin(4096,12288),lin(12288,4096))])
    small=torch.nn.Sequential(*[l for _ in range(30) for l in (lin(576,1536),lin(1536,576))])
    for name,subs in variants.items():
        t=base
        for a,b in subs: 
            assert re.search(a,t),a
            t=re.sub(a,b,t)
        ring.write_text(t)
        out=[]
        for k,m in heads.items():
            x=torch.randn(1,k,dtype=torch.bfloat16,device="cuda"); out.append(f"K{k}: "+bench(m,x,m.weight.nbytes))
        x=torch.randn(1,4096,dtype=torch.bfloat16,device="cuda"); out.append("chain: "+bench(chain,x,sum(p.nbytes for p in chain.parameters())))
        x=torch.randn(1,576,dtype=torch.bfloat16,device="cuda"); out.append("small(60 deps): "+bench(small,x,sum(p.nbytes for p in small.parameters())))
        print(name,"|"," | ".join(out),flush=True)
    ring.write_text(base)
S=r"kInFlight = 64 \* 1024"
variants={"64K":[], "96K":[(S,"kInFlight = 96 * 1024")], "128K":[(S,"kInFlight = 128 * 1024")], "32K":[(S,"kInFlight = 32 * 1024")]}
main()
